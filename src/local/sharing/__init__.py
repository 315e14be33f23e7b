"""Runs that share a process: which ones do, what the process does, and what the sweep has of it."""
