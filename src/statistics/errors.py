"""The standard error behind an interval, and by which Student's t the interval was made of it.

Intervals are wider than a normal's: they come from few pairs, from four pairs of blocks, from three processes. Their
half width over 1.96 is no standard error then, and a normal with the recorded error does not have their ends: what
is drawn from it covers 87 % for 95 % at four pairs. Error and degrees of freedom together have both.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtridf, stdtrit

from src.statistics.bootstrap import Array

_LEAST = 1.0  # degrees of freedom; an interval still wider has a larger error than was recorded
_NORMAL = 1e3  # from so many on


class Errors(NamedTuple):
    """Of estimates with intervals."""

    error: Array  # standard error
    freedom: Array  # degrees of freedom of Student's t; infinity: normal, or not known


def errors(
    log_low: npt.ArrayLike, log_high: npt.ArrayLike, recorded: npt.ArrayLike, confidence: npt.ArrayLike = 0.95
) -> Errors:
    """Standard errors of log speedups: as recorded, else the half width of the interval over a normal's.

    The freedom is that of the Student's t whose interval with the recorded error is the given one.

    Args:
        log_low: lower ends of the intervals, as logarithms.
        log_high: upper ends.
        recorded: standard errors that the intervals were made of; not a number: older records have none.
    """
    given = (np.asarray(each, dtype=np.float64) for each in (log_low, log_high, recorded, confidence))
    low, high, error, level = np.broadcast_arrays(*given)
    half, upper = np.maximum(high - low, 0.0) / 2, (1 + level) / 2
    known = np.isfinite(error) & (error > 0) & (half > 0)
    error = np.where(known, error, half / ndtri(upper))
    widths = np.divide(half, error, out=np.zeros(half.shape), where=known)  # in standard errors
    quantile = np.minimum(widths, stdtrit(_LEAST, upper))
    wider = quantile > stdtrit(_NORMAL, upper)
    freedom = stdtridf(upper, quantile, out=np.full(half.shape, np.inf), where=wider)
    error = np.divide(half, quantile, out=error, where=wider)
    return Errors(error, np.maximum(freedom, _LEAST))
