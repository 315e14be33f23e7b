"""Other Python processes of this program: how they are started, what they import, how they end."""
