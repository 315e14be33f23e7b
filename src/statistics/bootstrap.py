"""Robust location, its standard error and block resampling: what the speedup's interval is made of.

Log times in, numbers out; sources stand with each function.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MIN_PAIRS = 3
FEW = 8  # below, nothing is trimmed and no autocorrelation or order effect can be told from noise
TRIM = 0.2  # of each tail of the log ratios
_NOISE = 1.5  # second autocorrelations below this over sqrt(n) are taken for noise
_CHUNK = 1 << 16  # resampled values held at once: they stay in the cache


def log_times(times_ms: Array, name: str, at_least: int = MIN_PAIRS) -> Array:
    """Logarithms of round times in ms.

    Raises:
        ValueError: too few, or times that are not finite and positive (a clock that was set back).
    """
    times = np.asarray(times_ms, dtype=np.float64)
    if times.ndim != 1 or times.size < at_least:
        raise ValueError(f"{name} has shape {times.shape}, must be a row of at least {at_least} round times")
    if times.size and not (times.min() > 0 and times.max() < np.inf):  # neither is true of what is no number
        bad = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
        raise ValueError(f"{name}[{bad[0]}] is {times[bad[0]]} ms, must be finite and positive")
    return np.log(times)


class Location(NamedTuple):
    """A trimmed mean and how well it is known."""

    mean: float
    error: float  # its standard error
    freedom: int  # degrees of freedom of the error


def trimmed(n: int) -> int:
    """How many of n values are cut off at each end."""
    return int(TRIM * n) if n >= FEW else 0


def winsorised(values: Array) -> tuple[Array, Array]:
    """Trimmed means and winsorised values along the last axis."""
    n = values.shape[-1]
    cut = trimmed(n)
    ordered = np.sort(values, axis=-1)
    clipped = np.clip(values, ordered[..., cut, None], ordered[..., n - cut - 1, None])
    return ordered[..., cut : n - cut].mean(axis=-1), clipped


def location(values: Array, fitted: int = 1) -> Location:
    """Trimmed mean with Yuen's standard error (1974), inflated for autocorrelation.

    Args:
        values: in the order measured.
        fitted: parameters fitted to the values, the mean among them.
    """
    n = values.size
    mean, clipped = winsorised(values)
    variance = float(_standard_error(clipped, 1)) ** 2 * _inflation(clipped) * (n - 1) / (n - fitted)
    return Location(float(mean), math.sqrt(variance), n - 2 * trimmed(n) - fitted)


def _standard_error(clipped: Array, block: int) -> Array:
    """Of trimmed means over the last axis, from their winsorised values in independent blocks."""
    n = clipped.shape[-1]
    blocks = clipped
    if block > 1:
        blocks = clipped.reshape(*clipped.shape[:-1], n // block, block).mean(axis=-1)
    kept = 1 - 2 * trimmed(n) / n
    return np.asarray(blocks.std(axis=-1, ddof=1) / (math.sqrt(n // block) * kept))


def _inflation(clipped: Array) -> float:
    """Variance of the mean of ARMA(1, 1) values over that of independent ones, at least 1.

    1 + 2 r1 / (1 - phi) with phi = r2 / r1 from the first two autocorrelations; r2 > r1 ** 2 tells an AR(1)
    hidden under independent noise from a plain one, where r2 can be told from noise. Both are raised by 1 / n, their
    bias under independence. The rest of r1's bias, 4 r1 / n (Marriott & Pope 1954), is left in: at 12 pairs it
    would make every tenth interval of independent pairs twice as wide as need be.
    """
    n = clipped.size
    if n < FEW:
        return 1.0
    centred = clipped - clipped.mean()
    power = float(centred @ centred)
    if power == 0:
        return 1.0
    first, second = (float(centred[lag:] @ centred[:-lag]) / power + 1 / n for lag in (1, 2))
    first = min(0.9, first)
    if first <= 0:
        return 1.0
    decay = max(first, min(0.95, second / first)) if second * math.sqrt(n) > _NOISE else first
    return 1 + 2 * first / (1 - decay)


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


def sampling_block(clipped: Array) -> int:
    """Pairs per block: at least one effective observation each, at least 4 blocks."""
    return min(clipped.size // 4, max(block_length(clipped), round(_inflation(clipped))))


def resampled(values: Array, block: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Trimmed means and standard errors of circular block resamples."""
    size, offsets = values.size, np.arange(block)
    means, errors = np.empty(samples), np.empty(samples)
    step = max(1, _CHUNK // size)
    for first in range(0, samples, step):
        rows = slice(first, min(samples, first + step))
        starts = rng.integers(0, size, (rows.stop - first, size // block, 1))
        drawn = values[((starts + offsets) % size).reshape(rows.stop - first, -1)]
        means[rows], clipped = winsorised(drawn)
        errors[rows] = _standard_error(clipped, block)
    return means, errors
