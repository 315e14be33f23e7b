"""Treatments: quantization schemes, the layers they take, where and through what they are applied."""
