"""How the treated arm comes about: quantized on the device, on the host, or by diffusers as it loads."""
