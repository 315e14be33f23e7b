"""From tracked runs to verdicts, break-even shapes and a report."""
