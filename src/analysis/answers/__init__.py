"""Answers: what to use, the code that does it, and the command that makes it surer."""
