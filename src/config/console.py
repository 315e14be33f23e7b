"""What is told on a terminal, whose reader may go before the end."""

import os

from rich.console import Console


class Terminal(Console):
    """A console that outlives its reader (``| head``): what is told then is told to nobody."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program here."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
