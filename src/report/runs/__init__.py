"""The sections of the report that show what was measured."""
