"""Sweeps on this machine with a run on each of its devices, as on a cluster."""
