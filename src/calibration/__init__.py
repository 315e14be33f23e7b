"""Calibration: whether the instrument can be trusted on a device, shown with its own measurements."""
