"""Rates and means with their intervals, and how they are written."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Rate:
    """How many of how many, with a 95 % interval (Wilson)."""

    hits: int
    of: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Mean:
    """A mean over processes with a 95 % interval (Student's t): what differs between processes is in it."""

    value: float
    low: float
    high: float
    values: list[float]  # of each process


def rate(flags: Iterable[bool]) -> Rate:
    """How many are true; of none, nothing is known."""
    found = [bool(flag) for flag in flags]
    hits, of = sum(found), len(found)
    if not of:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    interval = stats.binomtest(hits, of).proportion_ci(method="wilson")
    return Rate(hits, of, hits / of, float(interval.low), float(interval.high))


def mean(values: Sequence[float]) -> Mean | None:
    """The mean of one value per process; None for fewer than two."""
    if len(values) < 2:
        return None
    kept = np.array(values)
    middle = float(kept.mean())
    half = float(stats.t.ppf(0.975, kept.size - 1) * kept.std(ddof=1) / math.sqrt(kept.size))
    return Mean(middle, middle - half, middle + half, kept.tolist())


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.4g} %"


def rate_text(found: Rate) -> str:
    """How many of how many, and the interval."""
    if not found.of:
        return "none measured"
    return f"{found.hits} of {found.of} ({100 * found.low:.0f}–{100 * found.high:.0f} %)"


def mean_text(found: Mean | None) -> str:
    """A relative difference with its interval, in percent."""
    if found is None:
        return "too few processes"
    return f"{100 * found.value:+.2f} % ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def spread_text(spread: float | None) -> str:
    """A standard deviation in percent."""
    return "" if spread is None else f"{100 * spread:.2f} %"
