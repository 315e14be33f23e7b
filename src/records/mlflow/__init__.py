"""Records in MLflow: a view of what lies on disk, safe to publish again at any time."""
