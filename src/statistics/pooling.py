"""Several processes that measured the same, as one estimate: a random-effects interval from within and between.

A process measures log(speedup) with an error of its own (within: its interval) around a truth of its own (between:
where memory lies, which kernels were picked). The estimate is the plain mean of the processes, its interval Student's
t with the spread of the processes themselves, which holds both errors. Weights are equal: by 1 / (between + within
variance) they would be better if these were known, but from 3 to 5 processes they are not, and the interval of
Hartung and Knapp (Statistics in Medicine 20, 2001) with such weights covered 92 % where nothing lies between. The
variance between processes is the moment estimate of Cochran's analysis of variance (Hedges & Olkin 1985).

From few processes a spread is poorly known, from one not at all. What the other runs of a device say of it comes in
as a prior with degrees of freedom of its own, as in Smyth's moderated t (Statistical Applications in Genetics and
Molecular Biology 3, 2004): spreads are averaged by their degrees of freedom, and t has those of both. Spreads that
differ from run to run more than chance lets them leave the prior fewer degrees. So does what is within the other
runs' processes: of runs whose own noise is large beside a process it shall tell something of, little is known, and
they count the less.

Verified by simulation: `python -m benchmarks.processes`, table in `docs/processes.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from src.statistics.bootstrap import Array
from src.statistics.process import ROUNDING, Process, log_spread, within_variance

MIN_DF = 3.0  # of the other runs' spread: with fewer it widens no single process' interval
_WIDEST = 100.0  # half width of an interval of a logarithm: says nothing, and its exponential is a number
_MOST_DF = 1e4  # where t is normal


@dataclass(frozen=True)
class Between:
    """How far processes lie apart on a device, as its other runs tell."""

    sd: float  # of log(speedup), without what is within the processes
    df: float  # degrees of freedom
    runs: int  # of two or more processes that it comes from
    error: float = 0.0  # standard error of sd ** 2; 0: no larger than `df` says

    def known(self, variance: Array) -> Array:
        """Degrees of freedom of the spread beside processes with these variances within."""
        error = max(self.error**2, np.finfo(float).tiny)
        return np.minimum(self.df, 2 * (self.sd**2 + variance) ** 2 / error)


@dataclass(frozen=True)
class Pooled:
    """The estimate from all processes of a run."""

    speedup: float
    ci_low: float
    ci_high: float
    processes: int
    between_sd: float | None  # of log(speedup), between these processes; None: there is only one
    interval: str  # what the interval contains, in words
    error: float  # standard error of log(speedup), from which Student's t makes the interval


def pool(processes: Sequence[Process], confidence: float = 0.95, prior: Between | None = None) -> Pooled:
    """The speedup that another process would find on average, with its interval.

    Args:
        processes: at least one.
        prior: what the other runs of the device say; None: nothing is known of them. Where beside these processes it
            rests on fewer than 3 degrees of freedom, a single one keeps its own interval.

    Raises:
        ValueError: no process.
    """
    if not processes:
        raise ValueError("no process to pool")
    if len(processes) == 1:
        return _alone(processes[0], confidence, prior)
    mean, squares = log_spread(processes)
    count, within, df = len(processes), within_variance(processes), len(processes) - 1.0
    sd = math.sqrt(max(0.0, squares / df - within))
    if prior is not None:
        known = float(prior.known(np.array(within)))
        squares, df = squares + known * (prior.sd**2 + within), df + known
    error = math.sqrt(squares / df / count)
    upper, shared = 0.5 + confidence / 2, max(each.shared for each in processes)
    half = math.hypot(error * float(special.stdtrit(df, upper)), shared * float(special.ndtri(upper)))
    half, error = min(half, _WIDEST), math.hypot(error, shared)
    low, high = math.exp(mean - half), math.exp(mean + half)
    return Pooled(math.exp(mean), low, high, count, sd, in_words(count, prior), error)


def _alone(only: Process, confidence: float, prior: Between | None) -> Pooled:
    low, high, error, told = only.ci_low, only.ci_high, only.error, False
    if prior is not None:
        each = [np.array([value]) for value in (only.speedup, low, high, only.error, confidence)]
        (low,), (high,), (told,) = (found.tolist() for found in widened(prior, *each))
        error = math.hypot(error, prior.sd) if told else error
    return Pooled(only.speedup, low, high, 1, None, in_words(1, prior if told else None), error)


def widened(
    prior: Between, speedup: Array, ci_low: Array, ci_high: Array, error: Array, confidence: Array
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """`pool` of many single processes at once: the ends of their intervals; whether the prior's spread is in them.

    Args:
        prior: what the other runs of the device say.
        ci_low: of its interval within the process, which only becomes wider.
        ci_high: likewise.
        error: of its logarithm, within the process.
    """
    variance = np.maximum(error, ROUNDING) ** 2
    known = prior.known(variance)
    told = known >= MIN_DF
    half = np.sqrt(prior.sd**2 + variance) * special.stdtrit(np.maximum(known, MIN_DF), 0.5 + confidence / 2)
    half = np.minimum(half, _WIDEST)
    low = np.where(told, np.minimum(ci_low, speedup * np.exp(-half)), ci_low)
    return low, np.where(told, np.maximum(ci_high, speedup * np.exp(half)), ci_high), told


def in_words(processes: int, prior: Between | None) -> str:
    """What a pooled interval contains: ``3 processes``, or what stands in for the others of a single one.

    Args:
        processes: that were pooled.
        prior: what is in a single one's interval; None: nothing.
    """
    if processes > 1:
        return f"{processes} processes"
    if prior is None:
        return "1 process: what differs between processes is not in its interval"
    others = f"{prior.runs} other run{'s' if prior.runs > 1 else ''} of this device"
    return f"1 process; between-process spread of {prior.sd:.1%} from {others}"


def between_others(runs: Sequence[Sequence[Process]]) -> Between | None:
    """The spread between processes that runs of one device share; None where none of them has two processes.

    A run counts the less, the larger the noise within its processes is beside the spread of all runs.

    Args:
        runs: the processes of each run.
    """
    several = [run for run in runs if len(run) > 1]
    if not several:
        return None
    df = np.array([len(run) - 1.0 for run in several])
    spread = np.array([log_spread(run)[1] for run in several]) / df
    within = np.array([within_variance(run) for run in several])
    weight = df / (float(df @ spread / df.sum()) + within) ** 2
    weight /= weight.sum()
    variance = max(0.0, float(weight @ (spread - within)))
    error = math.sqrt(float(weight**2 @ (2 * (variance + within) ** 2 / df)))
    known = min(float(df.sum()), max(MIN_DF, _degrees(spread / (variance + within), df)))
    return Between(math.sqrt(variance), known, len(several), error)


def _degrees(ratios: np.ndarray, df: np.ndarray) -> float:
    """Degrees of freedom of a spread that itself differs between runs; infinity where that may be chance.

    Args:
        ratios: the variance found in each run over the expected one.
        df: its degrees of freedom.

    What the logarithms of the ratios vary by beyond the trigamma(df / 2) of chance is trigamma(degrees / 2).
    """
    if len(ratios) < 3:
        return math.inf
    logs = np.log(np.maximum(ratios, 1e-6)) - special.digamma(df / 2) + np.log(df / 2)
    more = float(np.var(logs, ddof=1) - np.mean(special.polygamma(1, df / 2)))
    if more <= float(special.polygamma(1, _MOST_DF / 2)):
        return math.inf
    from scipy.optimize import brentq  # takes a third of a second, and few come here

    found = brentq(lambda half: special.polygamma(1, half) - more, 1e-3, _MOST_DF / 2)
    return float(2 * found)
