"""From words to configurations: what Hydra finds and merges, the axes of a sweep, runs as typed configurations."""
