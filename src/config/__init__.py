"""Composition: the typed schema, its checks, and the command-line application around Hydra."""
