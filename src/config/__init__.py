"""What users write and read, as all programs take it and tell it: mistakes, aliases, paths, times, addresses."""
