"""The instrument: paired rounds, statistics, quality, memory, compile times."""
