"""A model's weights: random or out of files; where they are, whether they are whole and unquantized."""
