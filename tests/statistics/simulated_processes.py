"""Processes that differ around a known truth, and how often pooling them finds it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from src.statistics.pooling import Between, Pooled, between_others, in_words, pool
from src.statistics.process import Process
from src.statistics.speedup import paired_speedup
from tests.statistics.simulation import Scenario, iid

Measure = Callable[[np.random.Generator, float], Process]  # (generator, log of this process' own truth)
MARGIN = 0.02


@dataclass(frozen=True)
class Outcome:
    """Of many experiments without any effect."""

    covered: float  # share of intervals that hold 1
    false: float  # share of `helps` and `hurts`
    width: float  # median, relative
    told: float  # share of intervals that say they hold what differs between processes


def by_rounds(pairs: int = 40, noise: float = 0.01, samples: int = 300) -> Measure:
    """A process whose interval the project's own estimator makes from noisy rounds."""
    scenario = Scenario("iid", iid(noise))

    def measure(rng: np.random.Generator, truth: float) -> Process:
        arms = scenario.arms(rng, pairs, speedup=math.exp(truth))
        found = paired_speedup(*arms, samples=samples, seed=int(rng.integers(2**31)))
        return Process(found.ratio, found.ci_low, found.ci_high, found.error)

    return measure


def by_formula(error: float = 0.003) -> Measure:
    """A process with a normal error; quick."""

    def measure(rng: np.random.Generator, truth: float) -> Process:
        at, half = math.exp(truth + rng.normal(0, error)), math.exp(1.96 * error)
        return Process(at, at / half, at * half, error)

    return measure


def by_few(pairs: int, error: float, confidence: float) -> Measure:
    """A process with few pairs: its error is estimated from them, and its interval Student's at this confidence."""
    quantile = float(stdtrit(pairs - 1, 0.5 + confidence / 2))

    def measure(rng: np.random.Generator, truth: float) -> Process:
        at, found = (
            math.exp(truth + rng.normal(0, error)),
            error * math.sqrt(rng.chisquare(pairs - 1) / (pairs - 1)),
        )
        half = math.exp(quantile * found)
        return Process(at, at / half, at * half, found)

    return measure


def processes(rng: np.random.Generator, count: int, between: float, measure: Measure) -> list[Process]:
    """Processes of one run whose treatment has no effect; `between`: standard deviation of log(speedup)."""
    return [measure(rng, rng.normal(0, between)) for _ in range(count)]


def prior(
    rng: np.random.Generator, runs: int, count: int, between: float, measure: Measure
) -> Between | None:
    """What other runs of the device say."""
    return between_others([processes(rng, count, between, measure) for _ in range(runs)])


def outcome(
    experiments: int, pooled: Callable[[np.random.Generator], Pooled], seed: int = 0, *, told: bool = False
) -> Outcome:
    """Repeat an experiment whose truth is 1; `told`: only intervals that say they hold what differs count."""
    every = [pooled(np.random.default_rng((seed, number))) for number in range(experiments)]
    telling = [each for each in every if each.interval != in_words(1, None)]
    found = telling if told else every
    return Outcome(
        covered=float(np.mean([each.ci_low <= 1 <= each.ci_high for each in found])),
        false=float(np.mean([each.ci_low > 1 + MARGIN or each.ci_high < 1 / (1 + MARGIN) for each in found])),
        width=float(np.median([(each.ci_high - each.ci_low) / each.speedup for each in found])),
        told=len(telling) / experiments,
    )


def alone(count: int, between: float, measure: Measure) -> Callable[[np.random.Generator], Pooled]:
    """A run of `count` processes, of whose device nothing else is known."""
    return lambda rng: pool(processes(rng, count, between, measure))


def among(
    count: int, between: float, measure: Measure, *, runs: int, each: int, others: Measure | None = None
) -> Callable[[np.random.Generator], Pooled]:
    """The same beside other `runs` of that device, of `each` processes; they are measured as `others` says."""
    return lambda rng: pool(
        processes(rng, count, between, measure), prior=prior(rng, runs, each, between, others or measure)
    )
