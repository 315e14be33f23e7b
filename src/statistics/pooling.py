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
differ from run to run more than chance lets them leave the prior fewer degrees.

Verified by simulation: `python -m benchmarks.processes`, table in `docs/processes.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from scipy import special

from src.statistics.bootstrap import Array

MIN_DF = 3.0  # of the other runs' spread: with fewer it widens no single process' interval
_ROUNDING = 1e-9  # standard errors of logarithms below this are no information
_MOST_DF = 1e4  # where t is normal


@dataclass(frozen=True)
class Process:
    """What one process measured: a speedup (> 1 is faster) and the interval within the process."""

    speedup: float
    ci_low: float
    ci_high: float

    @property
    def log(self) -> float:
        """log(speedup)."""
        return math.log(self.speedup)

    def error(self, confidence: float) -> float:
        """Standard error of `log`, from an interval of this confidence."""
        return max((math.log(self.ci_high) - math.log(self.ci_low)) / (2 * _z(confidence)), _ROUNDING)


@dataclass(frozen=True)
class Between:
    """How far processes lie apart on a device, as its other runs tell."""

    sd: float  # of log(speedup), without what is within the processes
    df: float  # degrees of freedom
    runs: int  # of two or more processes that it comes from


@dataclass(frozen=True)
class Pooled:
    """The estimate from all processes of a run."""

    speedup: float
    ci_low: float
    ci_high: float
    processes: int
    between_sd: float | None  # of log(speedup), between these processes; None: there is only one
    interval: str  # what the interval contains, in words


def pool(processes: Sequence[Process], confidence: float = 0.95, prior: Between | None = None) -> Pooled:
    """The speedup that another process would find on average, with its interval.

    Args:
        processes: at least one.
        confidence: of their intervals, and of the pooled one.
        prior: what the other runs of the device say; None: nothing is known of them. Where it rests on fewer than 3
            degrees of freedom, a single process keeps its own interval.

    Raises:
        ValueError: no process.
    """
    if not processes:
        raise ValueError("no process to pool")
    count = len(processes)
    if count == 1 and (prior is None or prior.df < MIN_DF):
        only = processes[0]
        return Pooled(only.speedup, only.ci_low, only.ci_high, 1, None, in_words(1, None))
    mean, squares = _spread(processes)
    within, df = _within_variance(processes, confidence), count - 1.0
    sd = math.sqrt(max(0.0, squares / df - within)) if df else None
    if prior is not None:
        squares, df = squares + prior.df * (prior.sd**2 + within), df + prior.df
    half = math.sqrt(squares / df / count) * float(special.stdtrit(df, 0.5 + confidence / 2))
    low, high = math.exp(mean - half), math.exp(mean + half)
    return Pooled(math.exp(mean), low, high, count, sd, in_words(count, prior))


def widened(
    speedup: Array, ci_low: Array, ci_high: Array, confidence: Array, prior: Between
) -> tuple[Array, Array]:
    """`pool` of many single processes at once: the ends of their intervals, with the prior's spread in them.

    Args:
        speedup: of each.
        ci_low: of its interval within the process.
        ci_high: likewise.
        confidence: of its interval.
        prior: what the other runs of the device say, of at least MIN_DF degrees of freedom.
    """
    z = special.ndtri(0.5 + confidence / 2)
    within = np.maximum((np.log(ci_high) - np.log(ci_low)) / (2 * z), _ROUNDING) ** 2
    half = np.sqrt(prior.sd**2 + within) * special.stdtrit(prior.df, 0.5 + confidence / 2)
    return np.asarray(speedup * np.exp(-half)), np.asarray(speedup * np.exp(half))


def in_words(processes: int, prior: Between | None) -> str:
    """What a pooled interval contains: ``3 processes``, or what stands in for the others of a single one."""
    if processes > 1:
        return f"{processes} processes"
    if prior is None or prior.df < MIN_DF:
        return "1 process: what differs between processes is not in its interval"
    others = f"{prior.runs} other run{'s' if prior.runs > 1 else ''} of this device"
    return f"1 process; between-process spread of {prior.sd:.1%} from {others}"


def between_others(runs: Sequence[Sequence[Process]], confidence: float = 0.95) -> Between | None:
    """The spread between processes that runs of one device share; None where none of them has two processes.

    Args:
        runs: the processes of each run.
        confidence: of their intervals.
    """
    several = [run for run in runs if len(run) > 1]
    if not several:
        return None
    df = np.array([len(run) - 1.0 for run in several])
    spread = np.array([_spread(run)[1] for run in several]) / df
    within = np.array([_within_variance(run, confidence) for run in several])
    variance = max(0.0, float(df @ (spread - within) / df.sum()))
    known = min(float(df.sum()), max(MIN_DF, _degrees(spread / (variance + within), df)))
    return Between(math.sqrt(variance), known, len(several))


@cache
def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _within_variance(processes: Sequence[Process], confidence: float) -> float:
    return math.fsum(each.error(confidence) ** 2 for each in processes) / len(processes)


def _spread(processes: Sequence[Process]) -> tuple[float, float]:
    """Mean of the logarithms, and the sum of their squared distances from it; NumPy takes ten times as long."""
    logs = [each.log for each in processes]
    mean = math.fsum(logs) / len(logs)
    return mean, math.fsum((log - mean) ** 2 for log in logs)


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
