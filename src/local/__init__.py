"""Sweeps on this machine, run after run."""
