"""Sweeps on this machine: run after run, or one on each of its devices."""
