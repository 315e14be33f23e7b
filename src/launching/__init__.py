"""Launching: each run in a process of its own, the sweep's folder, progress."""
