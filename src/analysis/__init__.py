"""From tracked runs to verdicts, break-even shapes and answers; what shows them is src/report."""
