"""Loss curves: how far two lie apart, and a few points in place of many."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST = 200  # points of a drawn curve


@dataclass(frozen=True)
class Points:
    """A curve as it is drawn: of a long one each point is the mean of `width` steps."""

    steps: list[float]  # their middles, counted from 1
    values: list[float]
    width: int


def curve_distance(baseline: Sequence[float], treated: Sequence[float]) -> float:
    """Mean distance of two curves, as far as both go, as a share of the baseline's mean loss; 0: they are equal."""
    both = [*zip(baseline, treated, strict=False)]
    apart, whole = sum(abs(own - other) for own, other in both), sum(abs(own) for own, _ in both)
    return apart / whole if whole else 0.0


def few_points(values: Sequence[float], most: int = _MOST) -> Points:
    """At most so many points of a curve."""
    width = max(1, -(-len(values) // most))
    parts = [values[first : first + width] for first in range(0, len(values), width)]
    middles = [1 + width * place + (len(part) - 1) / 2 for place, part in enumerate(parts)]
    return Points(middles, [sum(part) / len(part) for part in parts], width)


def beside(baseline: Sequence[float], treated: Sequence[float]) -> Points:
    """How much higher a curve is than the baseline's, in % of it, point by point, as far as both go.

    Where the baseline is 0 there is no point.
    """
    length = min(len(baseline), len(treated))
    low, own = few_points(baseline[:length]), few_points(treated[:length])
    each = zip(own.steps, own.values, low.values, strict=True)
    found = [(step, 100 * (value / base - 1)) for step, value, base in each if base]
    return Points([step for step, _ in found], [share for _, share in found], own.width)
