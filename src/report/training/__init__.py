"""The section on training: steps, loss curves, single layers, what is predicted, trainings from scratch."""
