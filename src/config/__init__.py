"""The typed schema of what is configured; paths, mistakes and aliases as all programs tell them."""
