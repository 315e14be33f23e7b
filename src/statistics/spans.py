"""What may differ between two spans of time in which one arm each was measured, beyond the rounds' own noise."""

import itertools
import math

import numpy as np
from scipy.special import ndtri, stdtrit

from src.statistics.bootstrap import Array, location

_SEGMENTS = 4  # of an arm's span
_ROUNDS = 4  # in a segment at least


def drift_between(arms: list[Array], unseen: float, confidence: float) -> tuple[float, float]:
    """Half width and standard deviation, as logarithms, of what drift may have added between two spans' means.

    Two parts, as independent. What the rounds show: how far the means of an arm's neighbouring quarters lie apart
    beyond their noise. A random walk that moves means of segments by a variance v moves means of two
    neighbouring spans, four times as long, by 4 v. What no round can show, since it happens between the spans or in
    steps: `unseen`, a standard deviation.

    Args:
        arms: log times of each, in the order measured.
        unseen: relative standard deviation.
    """
    upper = (1 + confidence) / 2
    moved = [step for times in arms for step in _moved(times)]
    seen = math.sqrt(_SEGMENTS * max(0.0, float(np.mean(moved)))) if moved else 0.0
    half = float(stdtrit(len(moved), upper)) * seen if moved else 0.0
    return math.hypot(half, float(ndtri(upper)) * unseen), math.hypot(seen, unseen)


def _moved(times: Array) -> list[float]:
    """Variance from one quarter of a span to the next, beyond that of the rounds; once for each two neighbours."""
    count = min(_SEGMENTS, times.size // _ROUNDS)
    if count < 2:
        return []
    parts = [location(part) for part in np.array_split(times, count)]
    steps = ((b.mean - a.mean) ** 2 - a.error**2 - b.error**2 for a, b in itertools.pairwise(parts))
    return [step * count / _SEGMENTS for step in steps]  # fewer segments are longer, and move more
