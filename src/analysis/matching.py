"""Which runs of two sides measured the same: one workload and treatment, on one device where both sides have it."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from src.analysis.runs.frame import CELL_OF_ALL
from src.analysis.runs.tracked.variants import CACHE, is_same_treatment

Pairs = list[tuple[int, int]]
Options = Mapping[str, str]
_NO_VARIANT = [name for name in CELL_OF_ALL if name not in ("variant", "device")]


def matched(before: pd.DataFrame, after: pd.DataFrame, options: Mapping[str, str]) -> Pairs:
    """Places of the same cell on both sides.

    First those whose treatments have the same options, measured with the same caches; then those that differ only in
    the caches, or in options that one side does not know, as its schema is another one. What could be held against
    several others is held against none.

    Args:
        before: standing runs of one side.
        after: of the other.
        options: of the treatment of each run key, as JSON.
    """
    common = bool({*before["device"]} & {*after["device"]})
    columns = [*_NO_VARIANT, "device"] if common else _NO_VARIANT
    sides = [_cells(side, columns, options) for side in (before, after)]
    return [
        pair
        for cell, first in sides[0].items()
        if cell in sides[1]
        for pair in _of_cell(first, sides[1][cell])
    ]


def _cells(
    side: pd.DataFrame, columns: Sequence[str], options: Mapping[str, str]
) -> dict[tuple[str, ...], dict[int, Options]]:
    """Cell -> place -> the options of its treatment."""
    cells: dict[tuple[str, ...], dict[int, Options]] = defaultdict(dict)
    for place, (_, row) in enumerate(side.iterrows()):
        cells[tuple(str(row[name]) for name in columns)][place] = json.loads(options[row["run_key"]]) | {
            CACHE: row["cache"]
        }
    return cells


def _of_cell(first: dict[int, Options], second: dict[int, Options]) -> Pairs:
    same = _only(first, second, lambda a, b: a == b)
    taken = [{pair[at] for pair in same} for at in (0, 1)]
    rest = [
        {place: options for place, options in side.items() if place not in gone}
        for side, gone in zip((first, second), taken, strict=True)
    ]
    return same + _only(rest[0], rest[1], is_same_treatment)


def _only(
    first: dict[int, Options], second: dict[int, Options], agree: Callable[[Options, Options], bool]
) -> Pairs:
    """Pairs that agree with nothing but each other."""
    pairs = [(a, b) for a, of_a in first.items() for b, of_b in second.items() if agree(of_a, of_b)]
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    return [(a, b) for a, b in pairs if firsts.count(a) == 1 and seconds.count(b) == 1]
