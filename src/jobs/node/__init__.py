"""A run on a node: what it is sent with, whether it may run there, who has claimed it."""
