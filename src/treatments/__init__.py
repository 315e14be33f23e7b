"""Treatments: quantization schemes, the layers they take, and what a recipe does to both arms."""
