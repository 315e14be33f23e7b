"""Devices: what they are, what they do while they are measured, and how a machine's are dealt out."""
