"""Sweeps whose runs are jobs that somebody else starts: sent, followed, recorded."""
