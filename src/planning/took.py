"""What earlier runs took, read off their records."""

import statistics
from dataclasses import dataclass
from datetime import datetime

from src.config.schema.measure import MeasureConf
from src.planning.parts import (
    AGAIN,
    CEILINGS,
    COMPILE,
    ENERGY,
    FURTHER,
    PROFILE,
    PROFILE_S,
    ROUNDS,
    SEARCH,
    STARTS,
    TRAINED,
    added,
    parts_of,
)
from src.records.record import Record

_ONCE = (SEARCH, ENERGY, AGAIN, PROFILE, CEILINGS, STARTS)  # parts of a run's first process alone
_FROM_CACHE = 0.15  # of a first call that compiles, where none from the cache was seen


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
class Took:
    """Seconds of an earlier run: the parts of its first process, and of one that repeats it all but the rounds."""

    parts_s: dict[str, float]
    measure_s: float  # of its rounds what is cut to the budget
    baseline: _Arm
    treated: _Arm
    further_rest_s: float | None  # None: there was none
    steps: int = 0  # of a training
    step_s: float = 0.0  # of one more

    @property
    def cold(self) -> bool:
        """Whether the treated arm was compiled."""
        return self.treated.cold

    def predicted(
        self, measure: MeasureConf, processes: int, cached: tuple[bool, bool], steps: int = 0
    ) -> dict[str, float]:
        """The parts of a run like it.

        Args:
            measure: its budget, and what it leaves out.
            processes: that it is measured in.
            cached: whether the code of the baseline, and of the treated arm, will be in the compile cache.
            steps: of a training.
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
            STARTS: self.parts_s[STARTS] if measure.startup else 0.0,
            TRAINED: max(0.0, self.parts_s[TRAINED] + (steps - self.steps) * self.step_s),
        }
        rest_s = self.further_rest_s
        if rest_s is None:
            rest_s = sum(first.values()) - sum(first[name] for name in (ROUNDS, *_ONCE))
        further = {ROUNDS: rounds_s, FURTHER: max(0.0, rest_s)}
        return added([first, *[further] * (processes - 1)])


def took_of(record: Record, wall_s: float) -> Took:
    """What a run took that lasted this long."""
    phases_s, ceilings_s = record.phases_s, record.phases_s.get("ceilings", 0.0)
    first_s, *others_s = _each_s(record) or [wall_s]
    if not record.ceilings.get("crowded"):  # else they were not kept, and the next run measures them again
        phases_s, first_s = phases_s | {"ceilings": 0.0}, first_s - ceilings_s
    measure_s = phases_s.get("measure", 0.0)
    steps, step_s = _steps(record)
    return Took(
        parts_s=parts_of(phases_s, first_s),
        measure_s=measure_s,
        baseline=_arm(record, "baseline", "baseline_"),
        treated=_arm(record, "treated", ""),
        further_rest_s=max(0.0, statistics.mean(others_s) - measure_s) if others_s else None,
        steps=steps,
        step_s=step_s,
    )


def _steps(record: Record) -> tuple[int, float]:
    """How many steps of a training a run did, and seconds of another one: of both arms where it compares two."""
    done = int(record.details.get("trained", {}).get("steps", 0))
    compared = ("latency/baseline_median_ms", "latency/median_ms")
    arms = ("training/step_ms",) if "train" in record.phases_s else compared
    times = [record.metrics.get(name, record.metrics.get(f"emulated/{name}", 0.0)) for name in arms]
    return done, sum(times) / 1e3 if done else 0.0


def _each_s(record: Record) -> list[float]:
    """Seconds of each process that counts, of a run in several."""
    told = record.details.get("processes", {}).get("each", ())
    return [each["seconds"] for each in told if each.get("counts") and "seconds" in each]


def _arm(record: Record, name: str, prefix: str) -> _Arm:
    def metric(kind: str) -> float | None:
        named = f"compile/{prefix}{kind}"
        return record.metrics.get(named, record.metrics.get(f"emulated/{named}"))

    took_s, cold_s, cached_s = record.phases_s.get(f"compile {name}", 0.0), metric("cold_s"), metric("warm_s")
    if cold_s is None or name in record.details.get("compiled_ahead_s", {}):
        return _Arm(False, took_s, took_s)
    return _Arm(True, took_s, min(took_s, _FROM_CACHE * cold_s if cached_s is None else cached_s))


def wall_s_of(record: Record) -> float | None:
    """From a run's start to its end; None where the record does not say."""
    if "seconds" in (
        shared := record.details.get("shared", {})
    ):  # other runs lie between its start and its end
        return float(shared["seconds"])
    try:
        started, finished = (datetime.fromisoformat(t) for t in (record.started_at, record.finished_at))
    except ValueError:
        return None
    return (finished - started).total_seconds()
