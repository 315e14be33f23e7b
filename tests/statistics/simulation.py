"""Noise models of two arms measured in alternating rounds, with a known speedup.

A model draws the log of every round's disturbance in the order measured (A B B A A B B A ...); the arms' own
times are put on top. Disturbances are relative: 0.02 is 2 % of a round.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from src.measurement.joint import balanced_order
from src.statistics.speedup import (
    SpeedupEstimate,
    Verdict,
    paired_speedup,
    unpaired_speedup,
    verdict,
)
from src.statistics.stopping import StopReason, StopRule, confidence_after

Array = npt.NDArray[np.float64]
Disturbance = Callable[[np.random.Generator, int], Array]  # (generator, rounds) -> log factors
TRUE_SPEEDUP = 1.1
BASELINE_MS = 12.0


def iid(sigma: float = 0.02) -> Disturbance:
    """Independent lognormal noise."""
    return lambda rng, rounds: rng.normal(0, sigma, rounds)


def drift(slope: float = 0.001, swing: float = 0.05, period: float = 80) -> Disturbance:
    """A ramp (relative, per round) and a swing with a period in rounds, common to both arms."""

    def draw(rng: np.random.Generator, rounds: int) -> Array:
        at = np.arange(rounds)
        return slope * at + swing * np.sin(2 * np.pi * (at / period + rng.random()))

    return draw


def spikes(share: float = 0.05) -> Disturbance:
    """Single rounds that take 1.5 to 3 times as long."""
    return lambda rng, rounds: np.log(rng.uniform(1.5, 3, rounds)) * (rng.random(rounds) < share)


def clocks(slowdown: float = 0.15, switch: float = 0.05) -> Disturbance:
    """Two clock states, a Markov chain over rounds; a round in which it switches is hit in part."""

    def draw(rng: np.random.Generator, rounds: int) -> Array:
        switched = rng.random(rounds) < switch
        after = (np.cumsum(switched) + rng.integers(2)) % 2
        before = np.where(switched, 1 - after, after)
        share = rng.random(rounds)
        return np.log1p(slowdown * (share * before + (1 - share) * after))

    return draw


def together(*parts: Disturbance) -> Disturbance:
    """Several disturbances at once."""
    return lambda rng, rounds: np.sum([part(rng, rounds) for part in parts], axis=0)


def autoregressive(rng: np.random.Generator, size: int, rho: float, sigma: float) -> Array:
    """A stationary AR(1) series of standard deviation sigma."""
    steps = rng.normal(0, sigma * np.sqrt(1 - rho**2), size)
    steps[0] = rng.normal(0, sigma)
    for i in range(1, size):
        steps[i] += rho * steps[i - 1]
    return steps


@cache
def places_of(arms: int, rounds: int) -> npt.NDArray[np.int64]:
    """(rounds, arms): the place of each arm in each round."""
    return np.array([np.argsort(balanced_order(arms, index)) for index in range(rounds)])


@dataclass(frozen=True)
class Scenario:
    """A noise model: what hits the rounds, and an AR(1) part of the log ratios themselves."""

    name: str
    rounds: Disturbance
    rho: float = 0.0  # of the log ratios
    sigma: float = 0.0
    second: float = 0.0  # relative slowdown of the second round of each pair

    def arms(
        self, rng: np.random.Generator, pairs: int, speedup: float = TRUE_SPEEDUP
    ) -> tuple[Array, Array]:
        """Round times (ms) of the baseline and the treated arm, one per pair."""
        noise = self.rounds(rng, 2 * pairs).reshape(pairs, 2)
        noise[:, 1] += self.second
        flipped = np.arange(pairs) % 2 == 1  # A B | B A | A B | ...
        noise[flipped] = noise[flipped, ::-1]
        if self.sigma:
            noise[:, 0] += autoregressive(rng, pairs, self.rho, self.sigma)
        return BASELINE_MS * np.exp(noise[:, 0]), BASELINE_MS / speedup * np.exp(noise[:, 1])

    def joint(
        self, rng: np.random.Generator, arms: int, rounds: int, speedup: float = TRUE_SPEEDUP
    ) -> Iterator[tuple[Array, Array, npt.NDArray[np.bool_]]]:
        """Of rounds of all arms: for each treated one the baseline's times, its own, where the former came first."""
        noise = self.rounds(rng, arms * rounds).reshape(rounds, arms)
        places = places_of(arms, rounds)
        noise = np.take_along_axis(noise, places, axis=1)  # from places in the order to arms
        for arm in range(1, arms):
            own = BASELINE_MS / speedup * np.exp(noise[:, arm])
            yield BASELINE_MS * np.exp(noise[:, 0]), own, places[:, 0] < places[:, arm]


WELL_BEHAVED = (
    Scenario("iid 2 %", iid()),
    Scenario("common drift", together(iid(0.01), drift())),
    Scenario("spikes in 5 % of rounds", together(iid(), spikes())),
    Scenario("bimodal clocks", together(iid(0.01), clocks())),
    Scenario("drift + spikes + clocks", together(iid(0.01), drift(), spikes(), clocks())),
)
AUTOCORRELATED = (
    Scenario("AR(1) 0.3", iid(0.002), rho=0.3, sigma=0.02),
    Scenario("AR(1) 0.5", iid(0.002), rho=0.5, sigma=0.02),
    Scenario("AR(1) 0.5 + spikes", together(iid(0.002), spikes()), rho=0.5, sigma=0.02),
    Scenario("AR(1) 0.8", iid(0.002), rho=0.8, sigma=0.02),
)
STRESS = (
    Scenario("second round of a pair 3 % slower", iid(0.01), second=0.03),
    Scenario("drift of 1 % per round", together(iid(0.01), drift(slope=0.01))),
    Scenario("random walk 1 % per round", lambda rng, rounds: np.cumsum(rng.normal(0, 0.01, rounds))),
    Scenario("spikes in 15 % of rounds", together(iid(), spikes(0.15))),
    Scenario("clocks switch in 20 % of rounds", together(iid(0.003), clocks(switch=0.2))),
)


def in_turn(
    rng: np.random.Generator, *, apart: float = 0.0, walk: float = 0.0, step: float = 0.0
) -> tuple[Array, Array]:
    """Round times (ms) of two equal arms, 30 rounds each, a gap of 60 rounds between them; 1 % of noise.

    Args:
        rng: generator.
        apart: standard deviation of what differs between the spans, constant in each.
        walk: of the difference of the spans' means, by a random walk through spans and gap.
        step: of the gap, up or down.
    """
    rounds, gap = 30, 60
    logs = rng.normal(0, 0.01, 2 * rounds + gap)
    logs += np.cumsum(rng.normal(0, walk / math.sqrt(2 / 3 * rounds + gap), logs.size))
    logs[rounds:] += rng.normal(0, apart) + step * rng.choice([-1, 1])
    return BASELINE_MS * np.exp(logs[:rounds]), BASELINE_MS * np.exp(logs[rounds + gap :])


@dataclass(frozen=True)
class Coverage:
    """Of many experiments: how often the interval held the true speedup, and what else was found."""

    covered: float
    width: float  # median relative width
    pairs: float  # median number of pairs
    wide: float  # 90th percentile of the width, of an ideal t-interval's


def coverage(
    scenario: Scenario, pairs: int, experiments: int, *, samples: int = 1000, seed: int = 0
) -> Coverage:
    """Coverage at a fixed number of pairs."""

    def fixed(rng: np.random.Generator, number: int) -> SpeedupEstimate:
        return paired_speedup(*scenario.arms(rng, pairs), samples=samples, seed=number)

    return _repeat(fixed, experiments, seed, TRUE_SPEEDUP)


def joint_coverage(
    scenario: Scenario, arms: int, rounds: int, experiments: int, *, samples: int = 1000, seed: int = 0
) -> list[float]:
    """Coverage of each treated arm's interval, of so many arms in the same rounds, the baseline among them."""
    covered = np.zeros(arms - 1)
    for number in range(experiments):
        pairs = scenario.joint(np.random.default_rng((seed, number)), arms, rounds)
        for arm, (baseline, treated, first) in enumerate(pairs):
            found = paired_speedup(baseline, treated, first=first, samples=samples, seed=number)
            covered[arm] += found.ci_low <= TRUE_SPEEDUP <= found.ci_high
    return [float(share) for share in covered / experiments]


def sequential_coverage(
    scenario: Scenario,
    rule: StopRule,
    experiments: int,
    *,
    speedup: float = TRUE_SPEEDUP,
    samples: int = 1000,
    seed: int = 0,
) -> Coverage:
    """Coverage where the caller looks at growing numbers of pairs and stops by the rule."""

    def stopped(rng: np.random.Generator, number: int) -> SpeedupEstimate:
        arms = scenario.arms(rng, rule.max_pairs, speedup)
        return measure_until(rule, *arms, samples=samples, seed=number)[0]

    return _repeat(stopped, experiments, seed, speedup)


def false_verdicts(
    scenario: Scenario,
    pairs: int,
    experiments: int,
    *,
    margin: float = 0.02,
    samples: int = 1000,
    seed: int = 0,
) -> float:
    """Share of A/A experiments (equal arms) that say `helps` or `hurts`."""
    wrong = 0
    for number in range(experiments):
        arms = scenario.arms(np.random.default_rng((seed, number)), pairs, speedup=1.0)
        said = verdict(paired_speedup(*arms, samples=samples, seed=number), margin)
        wrong += said in (Verdict.HELPS, Verdict.HURTS)
    return wrong / experiments


def in_turn_coverage(
    unseen_drift: float, experiments: int, *, samples: int = 1000, seed: int = 0, **drift: float
) -> tuple[float, float]:
    """Of equal arms measured in turn: shares of intervals that hold 1, and of those that say helps or hurts."""
    covered = wrong = 0
    for number in range(experiments):
        arms = in_turn(np.random.default_rng((seed, number)), **drift)
        found = unpaired_speedup(*arms, unseen_drift=unseen_drift, samples=samples, seed=number)
        covered += found.ci_low <= 1 <= found.ci_high
        wrong += verdict(found, 0.02) in (Verdict.HELPS, Verdict.HURTS)
    return covered / experiments, wrong / experiments


def verdicts_at_the_margin(
    scenario: Scenario, rule: StopRule, experiments: int, *, samples: int = 1000, seed: int = 0
) -> float:
    """Share of experiments that say `helps` where the true speedup is the rule's margin itself."""
    wrong = 0
    for number in range(experiments):
        arms = scenario.arms(np.random.default_rng((seed, number)), rule.max_pairs, 1 + rule.margin)
        found, _ = measure_until(rule, *arms, samples=samples, seed=number)
        wrong += verdict(found, rule.margin) is Verdict.HELPS
    return wrong / experiments


def measure_until(
    rule: StopRule, baseline: Array, treated: Array, *, samples: int = 1000, seed: int = 0
) -> tuple[SpeedupEstimate, StopReason]:
    """What a caller of the stop rule does, on rounds drawn beforehand."""
    rule, pairs = replace(rule), rule.next_look(0)
    while True:
        estimate = paired_speedup(baseline[:pairs], treated[:pairs], samples=samples, seed=seed)
        if reason := rule.decide(pairs, 0.0, estimate):
            confidence = confidence_after(reason, 0.95)
            arms = baseline[:pairs], treated[:pairs]
            return paired_speedup(*arms, confidence=confidence, samples=samples, seed=seed), reason
        pairs = rule.next_look(pairs)


def _repeat(
    experiment: Callable[[np.random.Generator, int], SpeedupEstimate], count: int, seed: int, truth: float
) -> Coverage:
    estimates = [experiment(np.random.default_rng((seed, number)), number) for number in range(count)]
    widths, pairs = [e.relative_width for e in estimates], float(np.median([e.pairs for e in estimates]))
    ideal = 2 * stdtrit(pairs - 1, 0.975) * np.std([math.log(e.ratio) for e in estimates])
    return Coverage(
        covered=float(np.mean([e.ci_low <= truth <= e.ci_high for e in estimates])),
        width=float(np.median(widths)),
        pairs=pairs,
        wide=float(np.quantile(widths, 0.9) / ideal),
    )
