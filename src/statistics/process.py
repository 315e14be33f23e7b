"""What one process measured of a speedup, and the error that it has for itself.

What is within a process is its standard error, not its interval: a loop that ended early gives an interval at 98 % of
Student's t from 3 pairs, which is 7 errors wide on either side.

Arms that were measured in turn may differ by a drift between their two spans of time, which no round shows. The
baseline comes first in every process, so it may be the same in all: it is no part of their spread, is not averaged
out, and stands in the pooled interval as in that of one process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from src.statistics.bootstrap import FEW, MIN_PAIRS, TRIM, Array
from src.statistics.stopping import CLEAR_ERROR

ROUNDING = 1e-9  # standard errors of logarithms below this are no information


@dataclass(frozen=True)
class Process:
    """What one process measured: a speedup (> 1 is faster) and the interval within the process."""

    speedup: float
    ci_low: float
    ci_high: float
    error: float  # standard error of log(speedup), or `least_error`
    shared: float = 0.0  # the part of it that all processes may have in common: drift of arms in turn

    @classmethod
    def of(
        cls, estimate: Sequence[float], error: float, pairs: float, confidence: float, shared: float = 0.0
    ) -> "Process":
        """One whose standard error may not have been recorded.

        Args:
            estimate: speedup and both ends of its interval.
            error: standard error of log(speedup); not a number: unknown.
            pairs: that were measured.
            shared: see `Process`.
        """
        speedup, low, high = estimate
        if not math.isfinite(error):
            error = float(least_error(*map(np.array, (low, high, pairs, confidence))))
        return cls(speedup, low, high, error, shared)

    @property
    def log(self) -> float:
        """log(speedup)."""
        return math.log(self.speedup)

    @property
    def variance(self) -> float:
        """Of `log`, within the process, without what it shares with others."""
        return max(self.error**2 - self.shared**2, ROUNDING**2)


def least_error(ci_low: Array, ci_high: Array, pairs: Array, confidence: Array) -> Array:
    """The least standard error of a log(speedup) that may have given its interval, for where it was not recorded.

    That of a loop that ended early: the interval of a clear verdict, at its confidence. Where that takes the noise
    within processes for less than it is, what lies between them only comes out larger.

    Args:
        ci_low: of each interval.
        ci_high: likewise.
        pairs: that it comes from; where that is not a number, as few as there can be.
        confidence: of the intervals of loops that ended otherwise.
    """
    pairs = np.maximum(np.nan_to_num(pairs, nan=MIN_PAIRS), MIN_PAIRS)
    few = pairs < FEW
    freedom = np.where(few, pairs - 1, pairs - 2 * np.floor(TRIM * pairs) - 2)
    upper = 1 - CLEAR_ERROR * (1 - confidence) / 2
    half = (np.log(ci_high) - np.log(ci_low)) / 2
    return np.asarray(half / special.stdtrit(freedom, upper))


def within_variance(processes: Sequence[Process]) -> float:
    """The mean variance within processes."""
    return math.fsum(each.variance for each in processes) / len(processes)


def log_spread(processes: Sequence[Process]) -> tuple[float, float]:
    """Mean of the logarithms, and the sum of their squared distances from it; NumPy takes ten times as long."""
    logs = [each.log for each in processes]
    mean = math.fsum(logs) / len(logs)
    return mean, math.fsum((log - mean) ** 2 for log in logs)
