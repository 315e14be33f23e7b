"""The arms of a comparison: built, compiled, looked at, and timed."""
