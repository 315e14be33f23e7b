"""Where quantization pays and why: rules with their tests, maps, and all of it for one analysis."""
