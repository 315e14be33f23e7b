"""Rounds of the arms as they were measured, and the speedup that they give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from src.config.schema.measure import MeasureConf
from src.devices.monitor import Reading
from src.statistics.bootstrap import Array
from src.statistics.speedup import SpeedupEstimate, paired_speedup, unpaired_speedup
from src.statistics.stopping import StopReason, confidence_after


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
    others: tuple[Round, ...] = ()  # of further unquantized arms, beside the treated one's
    others_order: tuple[str, ...] = ()  # likewise, of each and the treated one; empty: the other way round

    @property
    def arms(self) -> tuple[Round, ...]:
        """All rounds: baseline, treated, others."""
        return (self.baseline, self.treated, *self.others)

    @property
    def clock_failed(self) -> bool:
        """Whether one of the times cannot be right."""
        return any(arm.clock_failed for arm in self.arms)

    @property
    def throttled(self) -> tuple[str, ...]:
        """Why the device slowed itself down during the pair; empty when it did not."""
        return tuple(sorted({reason for arm in self.arms for reason in arm.reading.slowdowns}))


@dataclass
class Other:
    """A further unquantized arm: ms per call of each of its rounds."""

    ms: list[float] = field(default_factory=list)
    calls_per_round: int = 1
    order: list[str] = field(
        default_factory=list
    )  # AB: before the treated arm; empty: where the baseline is not
    late_calls: int = 0


@dataclass
class Rounds:
    """What the clock said: ms per call of each round, in the order measured. Written as ``rounds.json``."""

    baseline_ms: list[float] = field(default_factory=list)
    treated_ms: list[float] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # AB: baseline first; BA: treated first
    arms: int = 2  # in each round at most; more: treated arms of other runs, between the two
    warmup_pairs: int = 0
    calls_per_round: tuple[int, int] = (1, 1)
    cache: str = "warm"  # cold: the caches were flushed before each call
    launches: bool = True  # whether waiting for the host's launches is in the times
    # Where it is not, by arm: calls that the device waited in all the same.
    late_calls: tuple[int, int] = (0, 0)
    stop_reason: str = ""
    seconds: float = 0.0
    recompiles: int = 0  # graphs compiled while measuring: those rounds say nothing
    page_faults: int = 0  # minor ones of this process while measuring: memory touched for the first time
    calls: int = 0  # of all arms while measuring, whether they count or not: those that page_faults are of
    states: dict[str, list[float | None]] = field(default_factory=dict)  # "treated/sm_mhz": one per pair
    retaken: list[dict[str, Any]] = field(default_factory=list)  # pairs not counted: place, times, why
    throttled: dict[int, list[str]] = field(default_factory=dict)  # pairs counted all the same: place -> why;
    # in turn: rounds, the baseline's first, those of the treated arm and the others behind, in `retaken` too
    others: dict[str, Other] = field(default_factory=dict)  # further unquantized arms, by their dtype
    baseline: str = ""  # the dtype of the baseline's rounds, where another than the run's own was faster
    # Known beforehand: what the verdict is against, one of the others by its dtype, or (any other name) the baseline.
    settled: str | None = None

    def as_arrays(self) -> tuple[Array, Array]:
        """Baseline and treated, ms per call."""
        return np.asarray(self.baseline_ms), np.asarray(self.treated_ms)

    @property
    def counted(self) -> int:
        """How many pairs count; in turn, where there are none, how many rounds of all arms."""
        arms = (self.baseline_ms, self.treated_ms, *(other.ms for other in self.others.values()))
        return len(self.order) or sum(map(len, arms))

    def count(self, pair: Pair) -> None:
        """Add a pair to those that the estimate comes from."""
        place = len(self.order)
        if pair.throttled:
            self.throttled[place] = list(pair.throttled)
        self.baseline_ms.append(pair.baseline.ms)
        self.treated_ms.append(pair.treated.ms)
        self.order.append(pair.order)
        for other, taken in zip(self.others.values(), pair.others, strict=True):
            other.ms.append(taken.ms)
        for other, order in zip(self.others.values(), pair.others_order, strict=False):
            other.order.append(order)
        for arm, of in zip(("baseline", "treated", *self.others), pair.arms, strict=True):
            for name, value in of.reading.values.items():
                column = self.states.setdefault(f"{arm}/{name}", [None] * place)
                column.append(value)
        for column in self.states.values():
            column.extend([None] * (place + 1 - len(column)))

    def set_aside(self, pair: Pair, why: str) -> None:
        """Keep a pair that is measured again; a time that is not a number is kept as null."""
        times = [of.ms if math.isfinite(of.ms) else None for of in pair.arms]
        names = ("baseline_ms", "treated_ms", *(f"{name}_ms" for name in self.others))
        self.retaken.append({"place": len(self.order), "why": why} | dict(zip(names, times, strict=True)))

    def fastest_other(self) -> str | None:
        """The further unquantized arm that was the fastest of all, by the medians; None: the baseline was.

        Where that was settled beforehand the medians say nothing.
        """
        if self.settled is not None:
            return self.settled if self.settled in self.others else None
        medians = {name: float(np.median(other.ms)) for name, other in self.others.items() if other.ms}
        best = min(medians, key=lambda name: medians[name], default=None)
        return best if best is not None and medians[best] < np.median(self.baseline_ms) else None

    def against(self, name: str, called: str) -> "Rounds":
        """The same rounds with another arm in the baseline's place, which stands among the others as `called`."""
        other, (late, treated_late) = self.others[name], self.late_calls
        in_order = self.order if other.order else []
        renamed = {"baseline": called, name: "baseline"}
        states = {key.partition("/")[::2]: column for key, column in self.states.items()}
        return replace(
            self,
            baseline=name,
            settled="",
            baseline_ms=other.ms,
            order=other.order or [{"AB": "BA", "BA": "AB"}.get(each, each) for each in self.order],
            calls_per_round=(other.calls_per_round, self.calls_per_round[1]),
            late_calls=(other.late_calls, treated_late),
            states={f"{renamed.get(arm, arm)}/{state}": column for (arm, state), column in states.items()},
            others={n: each for n, each in self.others.items() if n != name}
            | {called: Other(self.baseline_ms, self.calls_per_round[0], in_order, late)},
        )

    def against_fastest(self, called: str = "baseline") -> "Rounds":
        """The same rounds with the fastest unquantized arm as the baseline."""
        name = self.fastest_other()
        return self if name is None else self.against(name, called)

    def _append(self, alone: "Rounds", name: str, before: int) -> None:
        """Add what was seen beside the rounds of one arm, measured after so many rounds of others, under its name."""
        self.seconds += alone.seconds
        self.recompiles += alone.recompiles
        self.page_faults += alone.page_faults
        self.calls += alone.calls
        columns = {key.partition("/")[::2]: column for key, column in alone.states.items()}
        self.states |= {
            f"{name}/{state}": each for (arm, state), each in columns.items() if arm == "baseline"
        }
        self.retaken += [aside | {"place": before + aside["place"]} for aside in alone.retaken]
        self.throttled |= {before + place: why for place, why in alone.throttled.items()}

    def state_medians(self) -> dict[str, float]:
        """The median of each state over the rounds, e.g. ``treated/sm_mhz``."""
        known = {name: [v for v in column if v is not None] for name, column in self.states.items()}
        return {name: float(np.median(values)) for name, values in known.items() if values}


def rounds_in_turn(
    baseline: Rounds, treated: Rounds, others: Mapping[str, Rounds] | None = None, dtype: str = ""
) -> Rounds:
    """The rounds of arms that were measured one after the other, each by `measure_alone`.

    Args:
        baseline: of the unquantized arm that the verdict is against.
        others: of further unquantized arms, by their dtype.
        dtype: of the baseline, where it is not the run's own.
    """
    others = others or {}
    found = Rounds(
        baseline_ms=baseline.baseline_ms,
        treated_ms=treated.baseline_ms,
        calls_per_round=(baseline.calls_per_round[0], treated.calls_per_round[0]),
        cache=treated.cache,
        launches=treated.launches,
        late_calls=(baseline.late_calls[0], treated.late_calls[0]),
        stop_reason=treated.stop_reason or StopReason.BUDGET,
        others={
            name: Other(each.baseline_ms, each.calls_per_round[0], late_calls=each.late_calls[0])
            for name, each in others.items()
        },
        baseline=dtype,
    )
    before = 0
    for name, each in {"baseline": baseline, "treated": treated, **others}.items():
        found._append(each, name, before)
        before += len(each.baseline_ms)
    return found


def estimate_speedup(rounds: Rounds, conf: MeasureConf) -> SpeedupEstimate:
    """The speedup with its interval: paired where rounds were interleaved, else unpaired."""
    baseline, treated = rounds.as_arrays()
    confidence = confidence_after(rounds.stop_reason, conf.confidence)
    if rounds.order:
        first = np.array([order == "AB" for order in rounds.order])
        return paired_speedup(
            baseline, treated, first=first, confidence=confidence, samples=conf.bootstrap_samples
        )
    return unpaired_speedup(
        baseline,
        treated,
        unseen_drift=conf.in_turn_drift,
        confidence=confidence,
        samples=conf.bootstrap_samples,
    )
