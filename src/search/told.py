"""What a person sees of a search: each batch in a line, and at the end a row per combination."""

import sys
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from src.config.console import Terminal
from src.config.lines import runs_in_words
from src.config.paths import command, outputs_argument
from src.search.found import in_words
from src.search.runs import Notes
from src.search.search import Search


def batch_line(search: Search, size: int) -> str:
    """``search: 3 runs next, 12 of at most 20``."""
    return f"search: {runs_in_words(size)} next, {len(search.asked)} of at most {search.most}"


def plan_line(search: Search) -> str:
    """What else would follow the runs of a plan."""
    grid = sum(len(each.values) for each in search.searches)
    return (
        f"These are the first {runs_in_words(len(search.asked))} of a search; at most {search.most} in all, "
        f"where a grid of the same resolution has {grid}."
    )


def show(search: Search, notes: Notes, over: bool) -> None:
    """Print the table, how many runs it took, and where it lies on disk."""
    console = Terminal(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(_table(search, notes.name, notes.apart))
    grid = sum(len(each.values) for each in search.searches)
    console.print(
        f"{runs_in_words(len(search.asked))}; a grid of the same resolution has {grid}", markup=False
    )
    if not over:
        console.print(
            "some runs have no result yet; once they have, the same command goes on from there", markup=False
        )
    outputs = notes.folder.parents[1]
    for line in (str(notes.table.resolve()), command("analyze", *outputs_argument(outputs))):
        console.print(line, soft_wrap=True, markup=False)


def _table(search: Search, axis: str, combinations: Sequence[Mapping[str, str]]) -> Table:
    keys = list(dict.fromkeys(key for each in combinations for key in each))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for key in keys:
        table.add_column(escape(key.removeprefix("model.dims.")), no_wrap=True)
    table.add_column(f"break-even along {axis}", overflow="fold")
    table.add_column("runs", justify="right")
    for each, apart in zip(search.searches, combinations, strict=True):
        for number, sentence in enumerate(in_words(each, axis)):
            first = number == 0
            cells = [apart.get(key, "") if first else "" for key in keys]
            table.add_row(*map(escape, cells), escape(sentence), str(len(each.points)) if first else "")
    return table
