"""Attempts out of MLflow, column by column: what of them is kept here, and what tells them apart."""
