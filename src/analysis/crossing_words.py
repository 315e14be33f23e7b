"""A break-even in words: the measured M that it lies between first, then what a straight line makes of them."""

from collections.abc import Callable, Mapping
from typing import Any

from src.analysis.breakeven import Crossing, Direction

TURNS = {Direction.UP: "faster", Direction.DOWN: "slower"}


def number(m: float) -> str:
    """An M: whole from 10 on."""
    return f"{m:.0f}" if m >= 10 else f"{m:.2g}"


def bounds(
    low: float, high: float, low_open: bool, high_open: bool, text: Callable[[float], str] = number
) -> str:
    """``64–256``, ``≤ 16 to 64`` or ``64 to ≥ 4096``: open where it leaves what was measured."""
    between = " to " if low_open or high_open else "–"
    return f"{'≤ ' if low_open else ''}{text(low)}{between}{'≥ ' if high_open else ''}{text(high)}"


def between(low: float, high: float, low_open: bool, high_open: bool, axis: str = "M") -> str:
    """``between M = 64 and 256``, ``between M ≤ 16 and 64``."""
    return f"between {axis} {'≤' if low_open else '='} {number(low)} and {'≥ ' if high_open else ''}{number(high)}"


def straight(m: float, low: float, high: float, low_open: bool, high_open: bool) -> str:
    """``97 (80.2–110) if straight in between``."""
    return f"{_digits(m)} ({bounds(low, high, low_open, high_open, _digits)}) if straight in between"


def crossing_in_words(crossing: Crossing, axis: str = "M") -> str:
    """``between M = 64 and 256: 97 (80.2–110) if straight in between``."""
    where = between(crossing.low, crossing.high, crossing.low_open, crossing.high_open, axis)
    return f"{where}: {straight_of(crossing)}"


def straight_of(crossing: Crossing) -> str:
    """`straight` of a crossing."""
    ends = crossing.straight_low, crossing.straight_high
    return straight(crossing.m, *ends, crossing.low_open, crossing.high_open)


def in_row(row: Mapping[str, Any]) -> tuple[str, str]:
    """`bounds` and `straight` of a row of the break-even table."""
    opened = bool(row["low_open"]), bool(row["high_open"])
    line = straight(row["m"], row["straight_low"], row["straight_high"], *opened)
    return bounds(row["m_low"], row["m_high"], *opened), line


def _digits(m: float) -> str:
    """Three of them, so that both ends of a narrow interval do not read alike."""
    return f"{m:.0f}" if m >= 100 else f"{m:.3g}"
