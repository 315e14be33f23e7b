"""Records: the run's JSON on disk, which is the truth; MLflow shows a view of it."""
