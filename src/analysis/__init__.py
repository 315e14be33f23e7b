"""Analysis: tracked runs to a frame, verdicts, break-even shapes and the report."""
