"""What is told on a terminal, whose reader may go before the end, or in a file or pipe, which has no width."""

import os
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 1000  # columns
_SENTENCE = 80  # columns: a longer cell goes on below


class Terminal(Console):
    """A console that outlives its reader (``| head``): what is told then is told to nobody."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program here."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; in a file or pipe a table is as wide as its cells, so that no word or path is broken.

        A cell that is longer than a line of text, as a sentence is, goes on below at the next word.
        """
        tables = [each for each in objects if isinstance(each, Table)]
        if not tables or self.file.isatty():
            super().print(*objects, **options)
            return
        before = self.width
        for table in tables:
            self._wrap_sentences(table)
        self.width = max(before, _WIDEST)
        try:
            super().print(*objects, **options)
        finally:
            self.width = before

    def _wrap_sentences(self, table: Table) -> None:
        roomy = self.options.update(width=_WIDEST)
        for column in table.columns:
            cells = [Measurement.get(self, roomy, cell) for cell in column.cells]
            if max((cell.maximum for cell in cells), default=0) > _SENTENCE and not column.no_wrap:
                column.max_width = max(_SENTENCE, *(cell.minimum for cell in cells))
