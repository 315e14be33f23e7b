"""Training: data, objectives, one step, checkpoints. What is trained, and for how long, a model's YAML says."""
