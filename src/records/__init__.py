"""Records: the run's JSON on disk (the truth), and MLflow as a view of it."""
