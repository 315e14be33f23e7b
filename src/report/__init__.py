"""What an analysis shows: the report, the terminal, words, tables and plots."""
