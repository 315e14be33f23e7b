"""Treatments: quantization schemes, layer selection, autoquant, compile modes."""
