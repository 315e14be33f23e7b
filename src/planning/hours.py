"""How long a run will take: as long as the nearest earlier runs, part by part, else a guess from its budgets."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from src.config.quant_schema import QuantConf
from src.config.schema import MeasureConf
from src.planning.parts import (
    AGAIN,
    CEILINGS,
    COMPILE,
    ELSE,
    ENERGY,
    FURTHER,
    PROFILE,
    PROFILE_S,
    ROUNDS,
    SEARCH,
    added,
    parts_of,
    scaled,
)
from src.records.record import Outcome, Record

_WORKLOAD = ("model", "target", "dtype", "task")
# From the nearest to the furthest: what earlier runs are called, and the axes that they share with the run.
LADDER: dict[str, tuple[str, ...]] = {
    "the same": (*_WORKLOAD, "quant", "compile", "batch", "resolution"),
    "another size": (*_WORKLOAD, "quant", "compile"),
    "another quantization": (*_WORKLOAD, "compile", "batch", "resolution"),
    "another quantization and size": (*_WORKLOAD, "compile"),
}
GUESS = "guess"
_ONCE = (SEARCH, ENERGY, AGAIN, PROFILE, CEILINGS)  # parts of a run's first process alone
_UNSUPPORTED_S = 10.0  # to start a process that finds it cannot
_FROM_CACHE = 0.15  # of a first call that compiles, where none from the cache was seen


@dataclass(frozen=True)
class Estimate:
    """Wall seconds of a run, which earlier runs say so, and what they go into."""

    seconds: float
    source: str  # a key of LADDER, or GUESS
    runs: int = 0  # earlier ones that it is the median of
    parts_s: Mapping[str, float] = field(default_factory=dict, hash=False)  # by a key of PARTS


@dataclass(frozen=True)
class _Arm:
    """The first call of an arm in an earlier run."""

    cold: bool  # something was compiled
    took_s: float
    cached_s: float  # with everything in the cache

    def next_s(self, *, cached: bool) -> float:
        """What it takes the next time."""
        return self.cached_s if cached else self.took_s


@dataclass(frozen=True)
class _Took:
    """Seconds of an earlier run: the parts of its first process, and of one that repeats it all but the rounds."""

    parts_s: dict[str, float]
    measure_s: float  # of its rounds what is cut to the budget
    baseline: _Arm
    treated: _Arm
    further_rest_s: float | None  # None: there was none

    @property
    def cold(self) -> bool:
        """Whether the treated arm was compiled."""
        return self.treated.cold

    def foretold(self, measure: MeasureConf, processes: int, cached: tuple[bool, bool]) -> dict[str, float]:
        """The parts of a run like it.

        Args:
            measure: its budget, and what it leaves out.
            processes: that it is measured in.
            cached: whether the code of the baseline, and of the treated arm, will be in the compile cache.
        """
        arms = list(zip((self.baseline, self.treated), cached, strict=True))
        saved_s = sum(arm.took_s - arm.next_s(cached=there) for arm, there in arms)
        again_s = sum(arm.cached_s for arm, there in arms if arm.cold and not there)
        rounds_s = self.parts_s[ROUNDS] - max(0.0, self.measure_s - measure.budget_s - measure.max_warmup_s)
        first = self.parts_s | {
            ROUNDS: rounds_s,
            COMPILE: max(0.0, self.parts_s[COMPILE] - saved_s),
            AGAIN: again_s if measure.warm_compile else 0.0,
            ENERGY: self.parts_s[ENERGY] if measure.energy_s > 0 else 0.0,
            PROFILE: (self.parts_s[PROFILE] or PROFILE_S) if measure.profile else 0.0,
            CEILINGS: self.parts_s[CEILINGS] if measure.ceilings else 0.0,
        }
        rest_s = self.further_rest_s
        if rest_s is None:
            rest_s = sum(first.values()) - sum(first[name] for name in (ROUNDS, *_ONCE))
        further = {ROUNDS: rounds_s, FURTHER: max(0.0, rest_s)}
        return added([first, *[further] * (processes - 1)])


class History:
    """The earlier runs of an outputs folder, by place and axes."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Args: records: of any outcome; those that were measured count, and unsupported ones for their like."""
        self._took: dict[tuple[Any, ...], list[_Took]] = defaultdict(list)
        self._unsupported: dict[str, list[float]] = defaultdict(list)
        self._measured_ceilings: set[str] = set()
        for record in records:
            wall_s = _wall_s(record)
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
        took = _took(record, wall_s)
        for step, names in LADDER.items():
            self._took[step, place, *_values(record.axes, names)].append(took)

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
    ) -> Estimate:
        """Seconds of a run that will be measured; with the device's ceilings where each run measures them again.

        Args:
            axes: of the run, as in its record.
            places: what its device is called: the gpu option's name, the device's own.
            measure: its budget, to which earlier rounds that took longer are cut, and what it leaves out.
            guess_s: what to say where there is no earlier run; its parts are not known here.
            processes: that it is measured in.
        """
        places = list(places)
        if self.has_ceilings(places):
            measure = replace(measure, ceilings=False)
        for step, names in LADDER.items():
            for place in places:
                if took := self._took.get((step, place, *_values(axes, names))):
                    return _estimate(step, took, measure, processes)
        return Estimate(min(guess_s, processes * measure.timeout_s), GUESS)

    def unsupported(self, places: Iterable[str]) -> Estimate:
        """Seconds of a run that only finds out that it cannot."""
        seen = [seconds for place in places for seconds in self._unsupported.get(place, ())]
        seconds, source = (statistics.median(seen), "the same") if seen else (_UNSUPPORTED_S, GUESS)
        return Estimate(seconds, source, len(seen), {ELSE: seconds})


def _estimate(step: str, took: list[_Took], measure: MeasureConf, processes: int) -> Estimate:
    """The median of earlier runs, as they would go now: code of the same workload, or of the same run, is cached."""
    same_workload = "batch" in LADDER[step]
    same = same_workload and "quant" in LADDER[step]
    counted = [each for each in took if each.cold != same] or took
    foretold = [each.foretold(measure, processes, (same_workload, same)) for each in counted]
    seconds = min(statistics.median(sum(parts.values()) for parts in foretold), processes * measure.timeout_s)
    return Estimate(seconds, step, len(counted), scaled(added(foretold), seconds))


def guess_s(measure: MeasureConf, quant: QuantConf, shapes: int, processes: int = 1) -> float:
    """Three times the rounds' budget and 30 s to build and compile; autoquant's trials and wholes come on top.

    Each process after the first: twice the budget and 20 s.

    Args:
        measure: the budgets.
        quant: the scheme.
        shapes: distinct layer shapes of the workload.
        processes: that the run is measured in.
    """
    searches = quant.plan is None and not quant.foretells
    trials = len(quant.candidates) * shapes if searches else 0
    search_s = 1.5 * quant.layer_budget_s * trials + (quant.whole_budget_s if trials else 0)
    return 3 * measure.budget_s + 30 + search_s + (processes - 1) * (2 * measure.budget_s + 20)


def sources(estimates: Iterable[Estimate]) -> dict[str, int]:
    """How many estimates rest on what, nearest first."""
    counts = Counter(each.source for each in estimates)
    return {source: counts[source] for source in (*LADDER, GUESS) if counts[source]}


def _values(axes: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(axes.get(name)) for name in names)


def _each_s(record: Record) -> list[float]:
    """Seconds of each process that counts, of a run in several."""
    told = record.details.get("processes", {}).get("each", ())
    return [each["seconds"] for each in told if each.get("counts") and "seconds" in each]


def _took(record: Record, wall_s: float) -> _Took:
    phases_s, ceilings_s = record.phases_s, record.phases_s.get("ceilings", 0.0)
    first_s, *others_s = _each_s(record) or [wall_s]
    if not record.ceilings.get("crowded"):  # else they were not kept, and the next run measures them again
        phases_s, first_s = phases_s | {"ceilings": 0.0}, first_s - ceilings_s
    measure_s = phases_s.get("measure", 0.0)
    return _Took(
        parts_s=parts_of(phases_s, first_s),
        measure_s=measure_s,
        baseline=_arm(record, "baseline", "baseline_"),
        treated=_arm(record, "treated", ""),
        further_rest_s=max(0.0, statistics.mean(others_s) - measure_s) if others_s else None,
    )


def _arm(record: Record, name: str, prefix: str) -> _Arm:
    def metric(kind: str) -> float | None:
        named = f"compile/{prefix}{kind}"
        return record.metrics.get(named, record.metrics.get(f"emulated/{named}"))

    took_s, cold_s, cached_s = record.phases_s.get(f"compile {name}", 0.0), metric("cold_s"), metric("warm_s")
    if cold_s is None:
        return _Arm(False, took_s, took_s)
    return _Arm(True, took_s, min(took_s, _FROM_CACHE * cold_s if cached_s is None else cached_s))


def _wall_s(record: Record) -> float | None:
    if "seconds" in (
        shared := record.details.get("shared", {})
    ):  # other runs lie between its start and its end
        return float(shared["seconds"])
    try:
        started, finished = (datetime.fromisoformat(t) for t in (record.started_at, record.finished_at))
    except ValueError:
        return None
    return (finished - started).total_seconds()
