"""Weights stored in 1 to 8 bits, in formats that torchao only unpacks or no longer has: docs/formats.md."""
