"""What is wrong with a composed configuration, told before anything runs."""
