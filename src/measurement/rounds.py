"""Rounds of two arms as they were measured, and the speedup that they give."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from src.config.schema import MeasureConf
from src.measurement.bootstrap import Array
from src.measurement.monitor import Reading
from src.measurement.statistics import SpeedupEstimate, paired_speedup, unpaired_speedup
from src.measurement.stopping import StopReason


@dataclass(frozen=True)
class Round:
    """One round of one arm: ms per call, and what the device said right after it."""

    ms: float
    reading: Reading = field(default_factory=Reading)

    @property
    def clock_failed(self) -> bool:
        """Whether the time cannot be right: a clock that stood still, stepped back or overflowed."""
        return not (math.isfinite(self.ms) and self.ms > 0)


@dataclass(frozen=True)
class Pair:
    """A round of each arm, one right after the other."""

    baseline: Round
    treated: Round
    order: str  # AB: baseline first; BA: treated first

    @property
    def clock_failed(self) -> bool:
        """Whether one of the two times cannot be right."""
        return self.baseline.clock_failed or self.treated.clock_failed

    @property
    def throttled(self) -> tuple[str, ...]:
        """Why the device slowed itself down during the pair; empty when it did not."""
        return tuple(sorted({*self.baseline.reading.slowdowns, *self.treated.reading.slowdowns}))


@dataclass
class Rounds:
    """What the clock said: ms per call of each round, in the order measured. Written as ``rounds.json``."""

    baseline_ms: list[float] = field(default_factory=list)
    treated_ms: list[float] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # AB: baseline first; BA: treated first
    warmup_pairs: int = 0
    calls_per_round: tuple[int, int] = (1, 1)
    cache: str = "warm"  # cold: the caches were flushed before each call
    launches: bool = True  # whether waiting for the host's launches is in the times
    late_calls: tuple[int, int] = (
        0,
        0,
    )  # by arm, where it is not: calls that the device waited in all the same
    stop_reason: str = ""
    seconds: float = 0.0
    page_faults: int = 0  # minor ones of this process while measuring: memory touched for the first time
    states: dict[str, list[float | None]] = field(default_factory=dict)  # "treated/sm_mhz": one per pair
    retaken: list[dict[str, Any]] = field(default_factory=list)  # pairs not counted: place, times, why
    throttled: dict[int, list[str]] = field(default_factory=dict)  # pairs counted all the same: place -> why

    def as_arrays(self) -> tuple[Array, Array]:
        """Baseline and treated, ms per call."""
        return np.asarray(self.baseline_ms), np.asarray(self.treated_ms)

    def count(self, pair: Pair) -> None:
        """Add a pair to those that the estimate comes from."""
        place = len(self.order)
        if pair.throttled:
            self.throttled[place] = list(pair.throttled)
        self.baseline_ms.append(pair.baseline.ms)
        self.treated_ms.append(pair.treated.ms)
        self.order.append(pair.order)
        for arm, of in (("baseline", pair.baseline), ("treated", pair.treated)):
            for name, value in of.reading.values.items():
                column = self.states.setdefault(f"{arm}/{name}", [None] * place)
                column.append(value)
        for column in self.states.values():
            column.extend([None] * (place + 1 - len(column)))

    def set_aside(self, pair: Pair, why: str) -> None:
        """Keep a pair that is measured again; a time that is not a number is kept as null."""
        times = [of.ms if math.isfinite(of.ms) else None for of in (pair.baseline, pair.treated)]
        self.retaken.append(
            {"place": len(self.order), "baseline_ms": times[0], "treated_ms": times[1], "why": why}
        )

    def state_medians(self) -> dict[str, float]:
        """The median of each state over the rounds, e.g. ``treated/sm_mhz``."""
        known = {name: [v for v in column if v is not None] for name, column in self.states.items()}
        return {name: float(np.median(values)) for name, values in known.items() if values}


def rounds_in_turn(baseline: Rounds, treated: Rounds) -> Rounds:
    """The rounds of two arms that were measured one after the other, each by `measure_alone`."""
    return Rounds(
        baseline_ms=baseline.baseline_ms,
        treated_ms=treated.baseline_ms,
        calls_per_round=(baseline.calls_per_round[0], treated.calls_per_round[0]),
        cache=treated.cache,
        launches=treated.launches,
        late_calls=(baseline.late_calls[0], treated.late_calls[0]),
        stop_reason=StopReason.BUDGET,
        seconds=baseline.seconds + treated.seconds,
        page_faults=baseline.page_faults + treated.page_faults,
        states=baseline.states
        | {name.replace("baseline", "treated"): s for name, s in treated.states.items()},
        retaken=baseline.retaken + treated.retaken,
        throttled=baseline.throttled | treated.throttled,
    )


def estimate_speedup(rounds: Rounds, conf: MeasureConf) -> SpeedupEstimate:
    """The speedup with its interval: paired where rounds were interleaved, else unpaired."""
    baseline, treated = rounds.as_arrays()
    estimator = paired_speedup if rounds.order else unpaired_speedup
    return estimator(baseline, treated, confidence=conf.confidence, samples=conf.bootstrap_samples)
