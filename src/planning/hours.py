"""How long a run will take: as long as the nearest earlier runs, part by part, else a guess from its budgets."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from src.config.schema.measure import MeasureConf
from src.config.schema.quant import QuantConf
from src.planning.parts import (
    ELSE,
    added,
    scaled,
)
from src.planning.took import Took, took_of, wall_s_of
from src.records.record import Outcome, Record

_STEP = "step"  # what the time of a training step depends on beside the axes
_WORKLOAD, _SIZES = ("model", "target", "dtype", "task", _STEP), ("batch", "resolution", "frames")
# From the nearest to the furthest: what earlier runs are called, and the axes that they share with the run.
LADDER: dict[str, tuple[str, ...]] = {
    "the same": (*_WORKLOAD, "quant", "compile", *_SIZES),
    "another size": (*_WORKLOAD, "quant", "compile"),
    "another quantization": (*_WORKLOAD, "compile", *_SIZES),
    "another quantization and size": (*_WORKLOAD, "compile"),
}
_SAME = next(iter(LADDER))
GUESS = "guess"
LEAST = "least"  # nothing is known but what its products take at least
PROBE_S = 5.0  # of a probe beside its rounds
_STEP_S = 1.0  # of a training of which nothing is known
_UNSUPPORTED_S = 10.0  # to start a process that finds it cannot


@dataclass(frozen=True)
class Estimate:
    """Wall seconds of a run, which earlier runs say so, and what they go into."""

    seconds: float
    source: str  # a key of LADDER, or GUESS, or LEAST
    runs: int = 0  # earlier ones that it is the median of
    parts_s: Mapping[str, float] = field(default_factory=dict, hash=False)  # by a key of PARTS
    least_s: float = 0.0  # of LEAST

    @property
    def is_open(self) -> bool:
        """Whether it may take any longer than is known."""
        return self.source == LEAST

    @property
    def told_s(self) -> float:
        """What a plan may say: of LEAST only what is sure, not what is guessed to choose by."""
        return self.least_s if self.is_open else self.seconds


class History:
    """The earlier runs of an outputs folder, by place and axes."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Args: records: of any outcome; those that were measured count, and unsupported ones for their like."""
        self._took: dict[tuple[Any, ...], list[Took]] = defaultdict(list)
        self._unsupported: dict[str, list[float]] = defaultdict(list)
        self._measured_ceilings: set[str] = set()
        for record in records:
            wall_s = wall_s_of(record)
            if wall_s is None:
                continue
            for place in {str(record.axes.get("gpu")), str(record.device.get("name"))}:
                if record.outcome is Outcome.UNSUPPORTED:
                    self._unsupported[place].append(wall_s)
                elif record.outcome is Outcome.OK:
                    self._add(record, place, wall_s)

    def _add(self, record: Record, place: str, wall_s: float) -> None:
        if record.ceilings and not record.ceilings.get("crowded"):
            self._measured_ceilings.add(place)
        took = took_of(record, wall_s)
        axes = record.axes | {_STEP: record.details.get("trained", {}).get("step")}
        for rung, names in LADDER.items():
            self._took[rung, place, *_values(axes, names)].append(took)

    def has_ceilings(self, places: Iterable[str]) -> bool:
        """Whether a device's ceilings were measured, and kept."""
        return not self._measured_ceilings.isdisjoint(places)

    def estimate(
        self,
        axes: Mapping[str, Any],
        places: Iterable[str],
        measure: MeasureConf,
        guess_s: float,
        processes: int = 1,
        steps: int = 0,
        step: Mapping[str, str] | None = None,
    ) -> Estimate:
        """Seconds of a run that will be measured; with the device's ceilings where each run measures them again.

        Args:
            axes: of the run, as in its record.
            places: what its device is called: the gpu option's name, the device's own.
            measure: its budget, to which earlier rounds that took longer are cut, and what it leaves out.
            guess_s: what to say where there is no earlier run; its parts are not known here.
            processes: that it is measured in.
            steps: of a training, which earlier ones of the same tell of alone: what a step takes depends on all.
            step: what its time depends on beside the axes.
        """
        places, axes = list(places), {**axes, _STEP: step or None}
        if self.has_ceilings(places):
            measure = replace(measure, ceilings=False)
        for rung in [_SAME] if steps else LADDER:
            for place in places:
                if took := self._took.get((rung, place, *_values(axes, LADDER[rung]))):
                    return _estimate(rung, took, measure, processes, steps)
        return Estimate(min(guess_s, processes * measure.timeout_s), GUESS)

    def unsupported(self, places: Iterable[str]) -> Estimate:
        """Seconds of a run that only finds out that it cannot."""
        seen = [seconds for place in places for seconds in self._unsupported.get(place, ())]
        seconds, source = (statistics.median(seen), "the same") if seen else (_UNSUPPORTED_S, GUESS)
        return Estimate(seconds, source, len(seen), {ELSE: seconds})


def _estimate(rung: str, took: list[Took], measure: MeasureConf, processes: int, steps: int) -> Estimate:
    """The median of earlier runs, as they would go now: code of the same workload, or of the same run, is cached."""
    same_workload = "batch" in LADDER[rung]
    same = same_workload and "quant" in LADDER[rung]
    counted = [each for each in took if each.cold != same] or took
    predicted = [each.predicted(measure, processes, (same_workload, same), steps) for each in counted]
    seconds = min(
        statistics.median(sum(parts.values()) for parts in predicted), processes * measure.timeout_s
    )
    return Estimate(seconds, rung, len(counted), scaled(added(predicted), seconds))


def guess_s(
    measure: MeasureConf,
    quant: QuantConf,
    shapes: int,
    processes: int = 1,
    *,
    probe: bool = False,
    steps: int = 0,
) -> float:
    """Three times the rounds' budget and 30 s to build and compile; autoquant's trials and wholes come on top.

    Each process after the first: twice the budget and 20 s. A probe is one layer: its budget and 5 s, every time.

    Args:
        shapes: distinct layer shapes of the workload.
        processes: that the run is measured in.
        steps: of a training, which is nothing else.
    """
    if steps:
        return 30 + steps * _STEP_S
    if probe:
        return processes * (measure.budget_s + PROBE_S)
    searches = quant.plan is None and not quant.predicts
    trials = len(quant.candidates) * shapes if searches else 0
    search_s = 1.5 * quant.layer_budget_s * trials + (quant.whole_budget_s if trials else 0)
    return 3 * measure.budget_s + 30 + search_s + (processes - 1) * (2 * measure.budget_s + 20)


def sources(estimates: Iterable[Estimate]) -> dict[str, int]:
    """How many estimates rest on what, nearest first."""
    counts = Counter(each.source for each in estimates)
    return {source: counts[source] for source in (*LADDER, GUESS, LEAST) if counts[source]}


def _values(axes: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(axes.get(name)) for name in names)
