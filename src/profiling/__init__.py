"""Profiles of one call: its trace, its kernels, its memory."""
