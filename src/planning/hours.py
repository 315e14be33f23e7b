"""How long a run will take: as long as the nearest earlier runs, else a guess from its budgets."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from src.config.quant_schema import QuantConf
from src.config.schema import MeasureConf
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
_ONCE = (
    "autoquant search",
    "energy",
    "compile again, cached",
    "profile",
)  # phases of a run's first process alone
_UNSUPPORTED_S = 10.0  # to start a process that finds it cannot


@dataclass(frozen=True)
class Estimate:
    """Wall seconds of a run, and which earlier runs say so."""

    seconds: float
    source: str  # a key of LADDER, or GUESS
    runs: int = 0  # earlier ones that it is the median of


@dataclass(frozen=True)
class _Took:
    """Seconds of a run's first process, and of one that repeats it, each without and with the paired rounds."""

    rest_s: float
    further_rest_s: float
    measure_s: float

    def seconds(self, processes: int, most_s: float) -> float:
        """Of a run in so many processes whose rounds take at most `most_s`."""
        measure_s = min(self.measure_s, most_s)
        return self.rest_s + measure_s + (processes - 1) * (self.further_rest_s + measure_s)


class History:
    """The earlier runs of an outputs folder, by place and axes."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Args: records: of any outcome; those that were measured count, and unsupported ones for their like."""
        self._took: dict[tuple[Any, ...], list[_Took]] = defaultdict(list)
        self._unsupported: dict[str, list[float]] = defaultdict(list)
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
        measure_s = record.phases_s.get("measure", 0.0)
        first_s, *others_s = _each_s(record) or [wall_s]
        rest_s = max(0.0, first_s - measure_s - record.phases_s.get("ceilings", 0.0))
        once_s = sum(record.phases_s.get(name, 0.0) for name in _ONCE)
        further_s = statistics.mean(others_s) - measure_s if others_s else rest_s - once_s
        took = _Took(rest_s, max(0.0, further_s), measure_s)
        for step, names in LADDER.items():
            self._took[step, place, *_values(record.axes, names)].append(took)

    def estimate(
        self,
        axes: Mapping[str, Any],
        places: Iterable[str],
        measure: MeasureConf,
        guess_s: float,
        processes: int = 1,
    ) -> Estimate:
        """Seconds of a run that will be measured.

        Args:
            axes: of the run, as in its record.
            places: what its device is called: the gpu option's name, the device's own.
            measure: its budget; earlier rounds that took longer are cut to it.
            guess_s: what to say where there is no earlier run.
            processes: that it is measured in.
        """
        for step, names in LADDER.items():
            for place in places:
                if took := self._took.get((step, place, *_values(axes, names))):
                    most_s = measure.budget_s + measure.max_warmup_s
                    seconds = statistics.median(t.seconds(processes, most_s) for t in took)
                    return Estimate(min(seconds, processes * measure.timeout_s), step, len(took))
        return Estimate(min(guess_s, processes * measure.timeout_s), GUESS)

    def unsupported(self, places: Iterable[str]) -> Estimate:
        """Seconds of a run that only finds out that it cannot."""
        seen = [seconds for place in places for seconds in self._unsupported.get(place, ())]
        return (
            Estimate(statistics.median(seen), "the same", len(seen))
            if seen
            else Estimate(_UNSUPPORTED_S, GUESS)
        )


def guess_s(measure: MeasureConf, quant: QuantConf, shapes: int, processes: int = 1) -> float:
    """Three times the rounds' budget and 30 s to build and compile; autoquant's trials and wholes come on top.

    Each process after the first: twice the budget and 20 s.

    Args:
        measure: the budgets.
        quant: the scheme.
        shapes: distinct layer shapes of the workload.
        processes: that the run is measured in.
    """
    trials = len(quant.candidates) * shapes if quant.plan is None else 0
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
