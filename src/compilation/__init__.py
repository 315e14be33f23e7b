"""torch.compile and AOTInductor as part of a treatment, and inductor's settings."""
