"""Serialization: a quantized model on disk and back, and whether it is the same then (docs/serialization.md)."""
