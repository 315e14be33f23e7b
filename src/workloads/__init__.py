"""Workloads: models built from their YAML, example inputs, targets inside a model."""
