"""How far an output is from the baseline's, and where numbers leave their range."""
