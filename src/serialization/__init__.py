"""Serialization: a quantized model, and its compiled code, on disk and back, and whether it is the same then (docs/serialization.md)."""
