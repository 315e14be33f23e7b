"""What a run says: its metrics, its verdict, or why there is none."""
