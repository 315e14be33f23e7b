"""Speedups with intervals from the round times of two arms, and when to stop measuring.

Arrays in, estimates out: round times are in ms per call, one per round, in the order measured.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MIN_PAIRS = 8
TRIM = 0.2  # of each tail of the log ratios
NOISE = 0.9  # autocorrelations below this over sqrt(n) are taken for noise
LOOK_GROWTH = 1.25
_CHUNK = 1 << 20  # resampled values held at once
_MIN_TAIL = 8  # rounds that must be steady behind the warm-up


class Verdict(StrEnum):
    """What a speedup's interval says about the treatment."""

    HELPS = "helps"
    HURTS = "hurts"
    NEUTRAL = "neutral"
    INCONCLUSIVE = "inconclusive"


class StopReason(StrEnum):
    """Why measuring ended."""

    NARROW = "narrow"
    BUDGET = "budget"
    MAX_PAIRS = "max_pairs"


@dataclass(frozen=True)
class SpeedupEstimate:
    """The ratio baseline / treated (> 1: the treated arm is faster) and its interval."""

    median: float  # point estimate: exp of the trimmed mean of the log ratios
    ci_low: float
    ci_high: float
    pairs: int
    block_length: int  # pairs per bootstrap block; 1: no autocorrelation was found

    @property
    def relative_width(self) -> float:
        """(high - low) / point estimate."""
        return (self.ci_high - self.ci_low) / self.median


@dataclass(frozen=True)
class StopRule:
    """Ends the paired loop: interval narrow enough, budget spent, or pairs exhausted."""

    min_pairs: int
    max_pairs: int
    target_width: float  # of the interval, relative to the speedup
    budget_s: float

    def decide(self, pairs: int, elapsed_s: float, estimate: SpeedupEstimate | None) -> StopReason | None:
        """Why to stop now, or None to go on; `estimate` is None where this is not a look."""
        if estimate is not None and pairs >= self.min_pairs and is_narrow(estimate, self.target_width):
            return StopReason.NARROW
        if pairs >= self.max_pairs:
            return StopReason.MAX_PAIRS
        return StopReason.BUDGET if elapsed_s >= self.budget_s else None

    def next_look(self, pairs: int) -> int:
        """The number of pairs at which to estimate next: looks grow by 25 %."""
        return min(self.max_pairs, max(self.min_pairs, math.ceil(pairs * LOOK_GROWTH), pairs + 1))


def paired_speedup(
    baseline_ms: Array, treated_ms: Array, *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> SpeedupEstimate:
    """Estimate baseline / treated from pairs of neighbouring rounds.

    Raises:
        ValueError: fewer than 8 pairs, lengths that differ, or times that are not finite and positive.
    """
    baseline, treated = _log_times(baseline_ms, "baseline_ms"), _log_times(treated_ms, "treated_ms")
    if baseline.size != treated.size:
        raise ValueError(
            f"baseline_ms has {baseline.size} rounds, treated_ms {treated.size}: pairs need as many"
        )
    return _estimate([_without_order(baseline - treated)], baseline.size, confidence, samples, seed)


def unpaired_speedup(
    baseline_ms: Array, treated_ms: Array, *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> SpeedupEstimate:
    """Estimate baseline / treated from arms measured in turn; drift between the arms is not in the interval.

    Raises:
        ValueError: fewer than 8 rounds of an arm, or times that are not finite and positive.
    """
    baseline, treated = _log_times(baseline_ms, "baseline_ms"), _log_times(treated_ms, "treated_ms")
    return _estimate([baseline, -treated], min(baseline.size, treated.size), confidence, samples, seed)


def is_narrow(estimate: SpeedupEstimate, target_width: float) -> bool:
    """Whether the interval's relative width is at most the target."""
    return estimate.relative_width <= target_width


def verdict(estimate: SpeedupEstimate, margin: float) -> Verdict:
    """Compare the whole interval with [1 / (1 + margin), 1 + margin], symmetric in log space."""
    if margin < 0:
        raise ValueError(f"margin is {margin}, must be >= 0")
    low, high = 1 / (1 + margin), 1 + margin
    if estimate.ci_low > high:
        return Verdict.HELPS
    if estimate.ci_high < low:
        return Verdict.HURTS
    return Verdict.NEUTRAL if low <= estimate.ci_low and estimate.ci_high <= high else Verdict.INCONCLUSIVE


def warmup_end(series_ms: Array, tolerance: float = 0.01) -> int:
    """Index of the first steady round of one arm; the series' length while it is not steady yet.

    The level and spread of the last half (at least 8 rounds) set a band. The last half must be steady
    itself: the trimmed means of its two halves differ by less than `tolerance` (relative) or 3 standard
    errors. The warm-up ends behind the last place where a running majority of 3 rounds lies outside the
    band, so single spikes do not prolong it.

    Raises:
        ValueError: times that are not finite and positive.
    """
    times = _log_times(series_ms, "series_ms", at_least=0)
    tail = times[-max(_MIN_TAIL, times.size // 2) :]
    if times.size < _MIN_TAIL:
        return times.size
    (early, early_se), (late, late_se) = (_location(half) for half in np.array_split(tail, 2))
    if abs(late - early) > max(tolerance, 3 * math.hypot(early_se, late_se)):
        return times.size
    level = np.median(tail)
    band = max(tolerance, 4 * 1.4826 * float(np.median(np.abs(tail - level))))
    outside = np.abs(times - level) > band
    padded = np.concatenate([outside[:1], outside, outside[-1:]]).astype(int)
    unsteady = np.flatnonzero(padded[:-2] + padded[1:-1] + padded[2:] >= 2)
    start = int(unsteady[-1]) + 1 if unsteady.size else 0
    return times.size if times.size - start < _MIN_TAIL else start


def warmed_up(series_ms: Array) -> bool:
    """Whether one arm's series ends in at least 8 steady rounds."""
    return warmup_end(series_ms) < len(series_ms)


def block_length(values: Array) -> int:
    """Block length for a circular block bootstrap of the mean, from the autocorrelation of the values.

    Politis & White, Econometric Reviews 23 (2004), corrected by Patton, Politis & White, 28 (2009).
    """
    n = values.size
    centred = values - values.mean()
    variance = float(centred @ centred) / n
    if variance <= np.finfo(float).eps ** 2:
        return 1
    run = max(5, math.ceil(math.sqrt(math.log10(n))))
    lags = min(n - 1, math.ceil(math.sqrt(n)) + run)
    covariance = np.array([centred[: n - k] @ centred[k:] for k in range(lags + 1)]) / n
    large = np.abs(covariance[1:]) >= 2 * math.sqrt(math.log10(n) / n) * variance
    quiet = [m for m in range(lags) if not large[m : m + run].any()]
    cut = min(2 * (quiet[0] if quiet else lags), lags)
    if cut == 0:
        return 1
    k = np.arange(1, cut + 1)
    weighted = np.minimum(1, 2 * (1 - k / cut)) * covariance[1 : cut + 1]
    spectrum = variance + 2 * weighted.sum()
    slope = 2 * (k * weighted).sum()
    if spectrum <= 0:
        return 1
    length = (1.5 * (slope / spectrum) ** 2 * n) ** (1 / 3)
    return int(np.clip(round(length), 1, max(1, n // 4)))


def _log_times(times_ms: Array, name: str, at_least: int = MIN_PAIRS) -> Array:
    times = np.asarray(times_ms, dtype=np.float64)
    if times.ndim != 1 or times.size < at_least:
        raise ValueError(f"{name} has shape {times.shape}, must be a row of at least {at_least} round times")
    bad = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {times[bad[0]]} ms, must be finite and positive")
    return np.log(times)


def _without_order(ratios: Array) -> Array:
    """Log ratios less what alternates with the order of the arms (A B, B A, ...) in a pair."""
    sign = np.where(np.arange(ratios.size) % 2, -1.0, 1.0)
    effect = (_winsorised(ratios[::2])[0] - _winsorised(ratios[1::2])[0]) / 2
    return np.asarray(ratios - effect * sign)


def _winsorised(values: Array) -> tuple[Array, Array]:
    """Trimmed means and winsorised values along the last axis."""
    n = values.shape[-1]
    cut = int(TRIM * n)
    ordered = np.sort(values, axis=-1)
    clipped = np.clip(values, ordered[..., cut, None], ordered[..., n - cut - 1, None])
    return ordered[..., cut : n - cut].mean(axis=-1), clipped


def _location(values: Array) -> tuple[float, float]:
    """Trimmed mean and its standard error, inflated by the lag-1 autocorrelation."""
    mean, clipped = _winsorised(values)
    return float(mean), math.sqrt(_inflation(clipped)) * float(_standard_error(clipped, 1))


def _standard_error(clipped: Array, block: int) -> Array:
    """Of trimmed means whose winsorised values are given, from independent blocks of the last axis."""
    n = clipped.shape[-1]
    blocks = clipped.reshape(*clipped.shape[:-1], n // block, block).mean(axis=-1)
    kept = 1 - 2 * int(TRIM * n) / n
    return np.asarray(blocks.std(axis=-1, ddof=1) / (math.sqrt(n // block) * kept))


def _inflation(clipped: Array) -> float:
    """Variance of the mean of ARMA(1, 1) values over that of independent ones, at least 1.

    1 + 2 r1 / (1 - phi) with phi = r2 / r1 from the first two autocorrelations: the second tells an AR(1)
    hidden under independent noise (r2 > r1 ** 2) from a plain one.
    """
    n = clipped.size
    centred = clipped - clipped.mean()
    power = float(centred @ centred)
    if power == 0:
        return 1.0
    first, second = (float(centred[lag:] @ centred[:-lag]) / power for lag in (1, 2))
    bias = (2 + 4 * max(first, 0.0)) / n
    first, second = min(0.95, first + bias), second + bias
    if first * math.sqrt(n) <= NOISE:
        return 1.0
    decay = min(0.95, max(first, second / first)) if second * math.sqrt(n) > NOISE else first
    return 1 + 2 * first / (1 - decay)


def _block(clipped: Array) -> int:
    """Pairs per block: at least one effective observation each, at least 4 blocks."""
    return min(clipped.size // 4, max(block_length(clipped), round(_inflation(clipped))))


def _resampled(values: Array, block: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Trimmed means and standard errors of circular block resamples."""
    count = values.size // block
    offsets = np.arange(block)
    means, errors = [], []
    for first in range(0, samples, max(1, _CHUNK // values.size)):
        rows = min(samples - first, max(1, _CHUNK // values.size))
        starts = rng.integers(0, values.size, (rows, count, 1))
        resample = values[((starts + offsets) % values.size).reshape(rows, -1)]
        mean, clipped = _winsorised(resample)
        means.append(mean)
        errors.append(_standard_error(clipped, block))
    return np.concatenate(means), np.concatenate(errors)


def _estimate(parts: list[Array], pairs: int, confidence: float, samples: int, seed: int) -> SpeedupEstimate:
    """exp(sum of the parts' locations) with a symmetric bootstrap-t interval."""
    rng = np.random.default_rng(seed)
    blocks = [_block(_winsorised(part)[1]) for part in parts]
    locations = [_location(part) for part in parts]
    point, error = sum(m for m, _ in locations), math.hypot(*(e for _, e in locations))
    shift, squares = np.zeros(samples), np.zeros(samples)
    for part, block, (mean, _) in zip(parts, blocks, locations, strict=True):
        means, errors = _resampled(part, block, samples, rng)
        shift += means - mean
        squares += errors**2
    studentised = np.abs(shift) / np.sqrt(np.maximum(squares, np.finfo(float).tiny))
    half = error * float(np.quantile(studentised, confidence)) if error > 1e-14 else 0.0
    return SpeedupEstimate(
        math.exp(point), math.exp(point - half), math.exp(point + half), pairs, max(blocks)
    )
