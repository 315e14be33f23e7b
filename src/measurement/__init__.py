"""The instrument: paired rounds, blocks at the power cap, energy, memory, ceilings."""
