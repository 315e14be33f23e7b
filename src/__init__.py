"""When does quantization pay? Measurements of torchao quantization in diffusion inference."""
