"""What may differ between two spans of time in which one arm each was measured, beyond the rounds' own noise."""

import itertools
import math

import numpy as np
from scipy.special import ndtri, stdtrit

from src.statistics.bootstrap import Array, location

_SEGMENTS = 4  # of an arm's span
_ROUNDS = 4  # in a segment at least


def drift_half_width(arms: list[Array], unseen: float, confidence: float) -> float:
    """Half width, as a logarithm, of what drift may have added to the difference of two spans' means.

    Two parts, as independent. What the rounds show: how far the means of an arm's neighbouring quarters lie apart
    beyond their noise. A random walk that moves means of segments by a variance v moves means of two
    neighbouring spans, four times as long, by 4 v. What no round can show, since it happens between the spans or in
    steps: `unseen`, a standard deviation.

    Args:
        arms: log times of each, in the order measured.
        unseen: relative standard deviation.
        confidence: of the interval.
    """
    upper = (1 + confidence) / 2
    moved = [step for times in arms for step in _moved(times)]
    seen = 0.0
    if moved:
        variance = _SEGMENTS * max(0.0, float(np.mean(moved)))
        seen = float(stdtrit(len(moved), upper)) * math.sqrt(variance)
    return math.hypot(seen, float(ndtri(upper)) * unseen)


def _moved(times: Array) -> list[float]:
    """Variance from one quarter of a span to the next, beyond that of the rounds; once for each two neighbours."""
    count = min(_SEGMENTS, times.size // _ROUNDS)
    if count < 2:
        return []
    parts = [location(part) for part in np.array_split(times, count)]
    steps = ((b.mean - a.mean) ** 2 - a.error**2 - b.error**2 for a, b in itertools.pairwise(parts))
    return [step * count / _SEGMENTS for step in steps]  # fewer segments are longer, and move more
