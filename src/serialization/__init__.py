"""Serialization: a quantized model and its compiled code on disk and back, still the same? (docs/serialization.md)."""
