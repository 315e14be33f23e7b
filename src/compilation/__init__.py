"""torch.compile as part of a treatment, and inductor's settings."""
