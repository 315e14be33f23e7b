"""From tracked runs to verdicts and break-even shapes; what shows them is src/report."""
