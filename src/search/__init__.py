"""Where along one axis a speedup crosses 1, in far fewer runs than a grid's (docs/breakeven.md)."""
