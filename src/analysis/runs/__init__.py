"""The runs that an analysis reads, out of MLflow or from records on this disk, as one tidy frame."""
