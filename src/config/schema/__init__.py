"""The typed schema of what is configured: a dataclass per group of options, and what they say of a run's two arms."""
