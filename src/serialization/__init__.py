"""Serialization: a quantized model and its compiled code on disk and back (docs/serialization.md)."""
