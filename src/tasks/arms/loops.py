"""The loops of `src.measurement` as a run has them: in a phase, watched, their rounds on disk whatever happens."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict

from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.joint import measure_jointly
from src.measurement.paired import measure_alone, measure_interleaved
from src.measurement.rounds import Rounds
from src.records.record import write_json
from src.tasks.arms.arm import Arm
from src.tasks.arms.timing import Watch, conditions, watched
from src.timers.timer import Call

ROUNDS_NAME = "rounds.json"  # in the run's folder: those that the verdict is of


def watched_run(run: RunContext, *calls: Call) -> AbstractContextManager[Watch]:
    """Inside, the device and the machine are watched, and the threads bound that compute the calls of all arms."""
    return watched(run.device, lambda: [call() for call in calls], run.compilers)


def alternate(
    baseline: Arm,
    treated: Arm,
    watch: Watch,
    run: RunContext,
    *,
    keep: str = "",
    conf: MeasureConf | None = None,
    phase: str = "measure",
    rounds: Rounds | None = None,
    others: Mapping[str, Call] | None = None,
) -> Rounds:
    """Rounds of all arms in turn, as `measure_interleaved` takes them; the fastest unquantized one is the baseline.

    Args:
        watch: over all arms.
        keep: the file of the run's folder that they are in on return, or however many there are at an error.
        conf: another protocol than the run's.
        phase: what the record calls it.
        rounds: empty ones, with what is settled beforehand.
        others: further unquantized arms by name.
    """
    rounds = Rounds() if rounds is None else rounds
    try:
        with run.phase(phase):
            rounds = measure_interleaved(
                baseline.call,
                treated.call,
                run.device,
                conf or run.cfg.measure,
                conditions(run.cfg, watch.monitor),
                rounds=rounds,
                others=others,
            )
    finally:
        rounds = kept(rounds, keep, run)
    return rounds


def alone(
    arm: Arm,
    watch: Watch,
    run: RunContext,
    *,
    conf: MeasureConf | None = None,
    phase: str = "measure",
    against: Rounds | None = None,
) -> Rounds:
    """Rounds of one arm by itself, as `measure_alone` takes them; the arguments are those of `alternate`."""
    with run.phase(phase):
        under = conditions(run.cfg, watch.monitor)
        return measure_alone(arm.call, run.device, conf or run.cfg.measure, under, against)


def jointly(
    unquantized: Sequence[Arm], treated: Sequence[Arm], watch: Watch, runs: Sequence[RunContext]
) -> list[Rounds]:
    """Rounds of several treated arms beside the same unquantized ones, as `measure_jointly` takes them.

    Args:
        unquantized: the baseline, and maybe another one.
        treated: one of each run.
        watch: over all arms.
        runs: of one protocol; each is told an equal share of the time, and keeps its rounds.
    """
    (baseline, *others), lead = unquantized, runs[0]
    lead.report(f"measure {len(runs)} runs together")
    rounds, started = [Rounds() for _ in runs], time.perf_counter()
    try:
        measure_jointly(
            baseline.call,
            [arm.call for arm in treated],
            lead.device,
            lead.cfg.measure,
            conditions(lead.cfg, watch.monitor),
            rounds=rounds,
            others={arm.name: arm.call for arm in others},
        )
    finally:
        seconds = (time.perf_counter() - started) / len(runs)
        for run in runs:
            run.record.phases_s["measure"] = round(seconds, 4)
        rounds = [kept(own, ROUNDS_NAME, run) for own, run in zip(rounds, runs, strict=True)]
    return rounds


def kept(rounds: Rounds, name: str, run: RunContext) -> Rounds:
    """The rounds as they count, with the fastest of the unquantized arms as the baseline; written under a name."""
    if rounds.fastest_other():
        rounds = rounds.against_fastest(run.cfg.dtype)
    if name:
        write_json(run.folder / name, asdict(rounds))
    return rounds
