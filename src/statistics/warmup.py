"""When the warm-up of a series of rounds is over."""

import math

import numpy as np

from src.statistics.bootstrap import Array, location, log_times

_MIN_TAIL = 8  # rounds that must be steady behind the warm-up


def warmup_end(series_ms: Array, tolerance: float = 0.01) -> int:
    """Index of the first steady round of one arm; the series' length while it is not steady yet.

    The last half (8 to 64 rounds) must be steady itself: no trend, and no step between its halves, that is both
    significant and larger than `tolerance` (relative). Its median and MAD set a band; the warm-up ends behind
    the last place where a majority of 3 neighbours lies outside, so single spikes do not prolong it.

    Raises:
        ValueError: times that are not finite and positive.
    """
    times = log_times(series_ms, "series_ms", at_least=0)
    tail = times[-min(64, max(_MIN_TAIL, times.size // 2)) :]
    if tail.size < _MIN_TAIL or max(_trend(tail), _step(tail)) > tolerance:
        return times.size
    level = np.median(tail)
    spread = 4 * (1 + 8 / tail.size) * 1.4826  # of MADs; few rounds tell little of it
    band = max(tolerance, spread * float(np.median(np.abs(tail - level))))
    outside = np.abs(times - level) > band
    padded = np.concatenate([outside[:1], outside, outside[-1:]]).astype(int)
    unsteady = np.flatnonzero(padded[:-2] + padded[1:-1] + padded[2:] >= 2)
    start = int(unsteady[-1]) + 1 if unsteady.size else 0
    return times.size if times.size - start < _MIN_TAIL else start


def warmed_up(series_ms: Array) -> bool:
    """Whether one arm's series ends in at least 8 steady rounds."""
    return warmup_end(series_ms) < len(series_ms)


def _trend(values: Array) -> float:
    """Change over the values by Theil & Sen's slope; 0 where Mann & Kendall's test finds none at 1 %."""
    n = values.size
    early, late = np.triu_indices(n, 1)
    rises = values[late] - values[early]
    if abs(np.sign(rises).sum()) < 2.58 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18):
        return 0.0
    return abs(float(np.median(rises / (late - early)))) * (n - 1)


def _step(values: Array) -> float:
    """Difference of the halves' trimmed means, 0 where it is within 3 standard errors."""
    early, late = (location(half) for half in np.array_split(values, 2))
    step = abs(late.mean - early.mean)
    return step if step > 3 * math.hypot(early.error, late.error) else 0.0
