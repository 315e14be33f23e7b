"""Timers: what one round of calls takes, on the device and on the host."""
