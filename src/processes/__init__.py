"""Other Python processes of this program: how they are started, and what they import."""
