"""The command-line application around Hydra: what is said, how it is composed, what is listed."""
