"""A break-even in words: the measured M that it lies between first, then what a straight line makes of them."""

from collections.abc import Mapping
from typing import Any

from src.analysis.breakeven import Crossing, Direction

TURNS = {Direction.UP: "faster", Direction.DOWN: "slower"}


def number(m: float) -> str:
    """An M: whole from 10 on."""
    return f"{m:.0f}" if m >= 10 else f"{m:.2g}"


def bounds(low: float, high: float, low_open: bool, high_open: bool) -> str:
    """``64–256``, ``≤ 16 to 64`` or ``64 to ≥ 4096``: open where it leaves what was measured."""
    between = " to " if low_open or high_open else "–"
    return f"{'≤ ' if low_open else ''}{number(low)}{between}{'≥ ' if high_open else ''}{number(high)}"


def between(low: float, high: float, low_open: bool, high_open: bool, axis: str = "M") -> str:
    """``between M = 64 and 256``, ``between M ≤ 16 and 64``."""
    return f"between {axis} {'≤' if low_open else '='} {number(low)} and {'≥ ' if high_open else ''}{number(high)}"


def straight(m: float, low: float, high: float) -> str:
    """``97 (80.2–110) if straight in between``."""
    return f"{number(m)} ({_digits(low)}–{_digits(high)}) if straight in between"


def crossing_in_words(crossing: Crossing, axis: str = "M") -> str:
    """``between M = 64 and 256: 97 (80.2–110) if straight in between``."""
    where = between(crossing.low, crossing.high, crossing.low_open, crossing.high_open, axis)
    return f"{where}: {straight(crossing.m, crossing.straight_low, crossing.straight_high)}"


def row_bounds(row: Mapping[str, Any]) -> str:
    """`bounds` of a row of the break-even table."""
    return bounds(row["m_low"], row["m_high"], bool(row["low_open"]), bool(row["high_open"]))


def _digits(m: float) -> str:
    """Three of them, so that both ends of a narrow interval do not read alike."""
    return f"{m:.0f}" if m >= 100 else f"{m:.3g}"
