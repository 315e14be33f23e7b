"""Experiments on the instrument itself: equal copies, copies that are slowed down by a known time, a bare loop."""
