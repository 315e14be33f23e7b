"""Where a speedup curve over M crosses 1, and how sure that is. Arrays in, crossings out.

Between neighbouring measured M nothing is known of a curve but that it crosses there. A crossing's interval reaches
from one measured M to another; a straight line in log(speedup) over log(M) gives the value within it. A curve is not
taken for monotone: each crossing is reported.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
import numpy.typing as npt

from src.statistics.errors import errors

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Direction(StrEnum):
    """What happens at a crossing as M grows."""

    UP = "up"  # faster from here on
    DOWN = "down"  # slower from here on


@dataclass(frozen=True)
class Curve:
    """Speedups of one treatment at growing M.

    Raises:
        ValueError: lengths that differ, M not strictly growing from above 0, or values that are not finite.
    """

    m: Array
    log_speedup: Array
    sigma: Array  # standard error of log_speedup
    freedom: Array | None = None  # its degrees of freedom; infinity, and None for all: normal

    def __post_init__(self) -> None:
        if (
            not self.m.shape == self.log_speedup.shape == self.sigma.shape
            or self.m.ndim != 1
            or not self.m.size
        ):
            raise ValueError("a curve needs rows of as many M, log speedups and sigmas, at least one")
        if self.m[0] <= 0 or np.any(np.diff(self.m) <= 0):
            raise ValueError(f"M is {self.m.tolist()}, must be positive and strictly growing")
        if not (
            np.isfinite(self.log_speedup).all() and np.isfinite(self.sigma).all() and (self.sigma >= 0).all()
        ):
            raise ValueError("log speedups and sigmas must be finite, sigmas at least 0")
        if self.freedom is not None and (self.freedom.shape != self.m.shape or not (self.freedom > 0).all()):
            raise ValueError("a curve needs as many degrees of freedom as M, above 0")


@dataclass(frozen=True)
class Crossing:
    """A break-even M, with the interval that the measured M and their own intervals leave it."""

    m: float  # by a straight line between its neighbours
    low: float  # the interval, from one measured M to another
    high: float
    below: float  # the neighbouring measured M that it lies between
    above: float
    straight_low: float  # the interval if all curves were straight between measured M
    straight_high: float
    direction: Direction
    low_open: bool = False  # both intervals reach below the smallest measured M, which their `low` then is
    high_open: bool = False  # likewise above the largest
    seen: float = 1.0  # share of the bootstrap's curves that cross in this direction at all


def curve(
    m: Array,
    speedup: Array,
    ci_low: Array,
    ci_high: Array,
    confidence: float | Array = 0.95,
    error: float | Array = np.nan,
) -> Curve:
    """A curve from speedups (ratios) with intervals.

    Args:
        m: in whatever order.
        speedup: of each.
        ci_low: of its interval.
        ci_high: likewise.
        confidence: of the intervals.
        error: standard errors of log(speedup) that the intervals were made of, by Student's t; not a number: it is
            not known, and the interval is taken for a normal's.
    """
    sigma, freedom = errors(np.log(ci_low), np.log(ci_high), error, confidence)
    order = np.argsort(m)
    m, logs = m[order].astype(np.float64), np.log(speedup)[order].astype(np.float64)
    return Curve(m, logs, sigma[order], freedom[order])


def crossings(
    points: Curve, *, samples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> list[Crossing]:
    """Every crossing of the curve with 1, by growing M, with intervals from a parametric bootstrap.

    Each of `samples` curves is drawn around the measured log speedups, from Student's t with their degrees of
    freedom. Its crossing nearest to the curve's own in the same direction counts; where it has none, the crossing
    lies outside of what was measured, on the side that the curve's ends allow. The interval is made of the measured
    M around each of these crossings: it holds the curve's own two, whatever the curve does between them.
    """
    drawn = points.log_speedup + points.sigma * _deviates(points.freedom, samples, points.m.size, seed)
    found = _crossings(np.log(points.m), points.log_speedup)
    return [_with_interval(points.m, *each, drawn, confidence) for each in found]


@cache
def _normals(samples: int, size: int, seed: int) -> Array:
    """The same draws for every curve of so many points: there may be thousands of curves."""
    return np.random.default_rng(seed).normal(size=(samples, size))


def _deviates(freedom: Array | None, samples: int, size: int, seed: int) -> Array:
    """Student's t of these degrees of freedom: normals, divided by what their standard error may be off by."""
    drawn = _normals(samples, size, seed)
    if freedom is None or np.isinf(freedom).all():
        return drawn
    told = np.flatnonzero(np.isfinite(freedom))
    squares = np.random.default_rng([seed, 1]).chisquare(freedom[told], (samples, told.size))
    drawn = drawn.copy()
    drawn[:, told] *= np.sqrt(freedom[told] / np.maximum(squares, np.finfo(float).tiny))
    return drawn


def _crossings(x: Array, y: Array) -> list[tuple[float, int, Direction]]:
    """Positions in log M, growing, and after which measured M they lie."""
    found = []
    for direction in Direction:
        crosses = _crosses(y[None], direction)[0]
        at = _positions(x, y[None])[0]
        found += [(float(at[i]), int(i), direction) for i in np.flatnonzero(crosses)]
    return sorted(found)


def _crosses(y: Array, direction: Direction) -> Mask:
    """Between which neighbours each row of y crosses 0; a point at 0 counts as not above it."""
    above = y > 0
    before, after = above[:, :-1], above[:, 1:]
    return ~before & after if direction is Direction.UP else before & ~after


def _positions(x: Array, y: Array) -> Array:
    """Where the line through each pair of neighbours meets 0, in log M; inf or nan where it doesn't."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(x[:-1] - y[:, :-1] * np.diff(x) / np.diff(y, axis=1))


def _with_interval(
    m: Array, at: float, place: int, direction: Direction, drawn: Array, confidence: float
) -> Crossing:
    x, crosses = np.log(m), _crosses(drawn, direction)
    positions = _positions(x, drawn)
    nearest = np.argmin(np.where(crosses, np.abs(positions - at), np.inf), axis=1)
    seen, outside = crosses.any(axis=1), _outside(x, at, direction, drawn)
    lines = np.where(seen, positions[np.arange(len(drawn)), nearest], outside)
    straight = _middle(lines, lines, confidence)
    low, high = _middle(np.where(seen, nearest, outside), np.where(seen, nearest + 1, outside), confidence)
    return Crossing(
        m=float(np.exp(at)),
        low=float(m[int(np.clip(low, 0, place))]),
        high=float(m[int(np.clip(high, place + 1, len(m) - 1))]),
        below=float(m[place]),
        above=float(m[place + 1]),
        straight_low=float(np.exp(np.clip(straight[0], x[0], x[-1]))),
        straight_high=float(np.exp(np.clip(straight[1], x[0], x[-1]))),
        direction=direction,
        low_open=low == -np.inf,
        high_open=high == np.inf,
        seen=float(seen.mean()),
    )


def _middle(lower: Array, upper: Array, confidence: float) -> tuple[float, float]:
    """What holds that share of intervals, half of the rest beyond either end."""
    tail = (1 - confidence) / 2 * (len(lower) - 1)
    lower, upper = np.sort(lower), np.sort(upper)
    return float(lower[int(np.floor(tail))]), float(upper[int(np.ceil(len(upper) - 1 - tail))])


def _outside(x: Array, at: float, direction: Direction, drawn: Array) -> Array:
    """For curves without the crossing: -inf where it lies below the measured M, inf where above.

    An upward crossing can lie below only if the curve starts above 1, and above only if it ends below 1;
    a downward one the other way round. Where both are possible, the nearer end is taken.
    """
    sign = 1.0 if direction is Direction.UP else -1.0
    below, above = sign * drawn[:, 0] > 0, sign * drawn[:, -1] <= 0
    nearer_below = at - x[0] < x[-1] - at
    return np.where(below & (~above | nearer_below), -np.inf, np.inf)
