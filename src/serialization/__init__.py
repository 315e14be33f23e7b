"""Serialization: a quantized model on disk and back, safely, and whether it is still the same (docs/serialization.md)."""
