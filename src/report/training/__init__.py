"""The section on training: steps, loss curves, single layers, what is foretold, trainings from scratch."""
