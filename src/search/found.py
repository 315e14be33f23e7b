"""What a search has found along its axis: crossings with the measured values that they lie between, in words."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from src.analysis.breakeven import Crossing, Direction, crossings, curve
from src.analysis.crossing_words import TURNS, straight_of
from src.search.axis import AxisSearch, Point

_SPENT = "not looked further: the runs were spent"


@dataclass(frozen=True)
class BreakEven:
    """One crossing of 1: the verdicts change between `last` and `first`, both measured."""

    direction: Direction
    last: Point  # the last value with the verdict before
    first: Point  # the first with the verdict after
    undecided: int  # values between them that were measured, and neither help nor hurt
    narrowed: bool  # no value of the axis is left to measure where a verdict changes
    at: Crossing | None  # where the speedup itself crosses 1; None where holes leave too little to say

    def text(self, axis: str) -> str:
        """``turns faster between M = 512 (hurts) and 768 (helps): 640 (600–700) if straight in between``."""
        ends = (
            f"{axis} = {self.last.value} ({self.last.verdict}) and {self.first.value} ({self.first.verdict})"
        )
        between = f", {self.undecided} measured between undecided" if self.undecided else ""
        about = f": {straight_of(self.at)}" if self.at else ""
        coarse = "" if self.narrowed else f"; {_SPENT}"
        return f"turns {TURNS[self.direction]} between {ends}{between}{about}{coarse}"


def break_evens(search: AxisSearch) -> list[BreakEven]:
    """The crossings, by growing values."""
    open_gaps = search.to_narrow()
    found = []
    for a, b in search.brackets():
        last, first = search.points[a], search.points[b]
        direction = Direction.UP if first.sign > 0 else Direction.DOWN
        between = [p for i, p in search.points.items() if a < i < b and p.measured]
        narrowed = not any(a <= low and high <= b for low, high in open_gaps)
        found.append(
            BreakEven(
                direction, last, first, len(between), narrowed, _crossing(search, last, first, direction)
            )
        )
    return found


def _crossing(search: AxisSearch, last: Point, first: Point, direction: Direction) -> Crossing | None:
    """Of the curve's crossings in that direction between the two points the middle one."""
    told = sorted((p for p in search.points.values() if p.measured), key=lambda point: point.value)
    columns = (
        [p.value for p in told],
        *([getattr(p, name) for p in told] for name in ("ratio", "low", "high", "confidence", "error")),
    )
    within = [
        each
        for each in crossings(curve(*(np.array(column, dtype=np.float64) for column in columns)))
        if each.direction is direction and last.value <= each.m <= first.value
    ]
    return within[len(within) // 2] if within else None


def in_words(search: AxisSearch, axis: str) -> list[str]:
    """A sentence per crossing; one that says why there is none."""
    found = break_evens(search)
    return [each.text(axis) for each in found] if found else [_without(search, axis)]


def _without(search: AxisSearch, axis: str) -> str:
    told = sorted((p for p in search.points.values() if p.measured), key=lambda point: point.value)
    if not told:
        reasons = list(dict.fromkeys(point.why for point in search.points.values() if point.why))
        return f"nothing measured: {'; '.join(reasons[:2])}" if reasons else "nothing measured yet"
    ends = "–".join(str(value) for value in dict.fromkeys([told[0].value, told[-1].value]))
    span = f"{axis} = {ends}, {len(told)} run{'' if len(told) == 1 else 's'}"
    counts = Counter(point.verdict for point in told)
    more = f"; {_SPENT}" if search.wanted() else ""
    if len(counts) == 1:
        return f"no crossing in range: {told[0].verdict} wherever measured ({span}){more}"
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"no crossing in range beyond the margin: {each} ({span}){more}"
