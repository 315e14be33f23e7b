"""The task `latency` for several runs of one workload at once: all treated arms in the same rounds, one baseline."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from src.compilation.scopes import Compiled, compiler_counts, compiler_options, graph_break_reasons
from src.context import RunContext
from src.devices.device import GIB
from src.measurement.joint import measure_jointly
from src.measurement.rounds import Rounds
from src.tasks.arms.arm import Arm
from src.tasks.arms.timing import Timed, conditions, power_blocks, watched
from src.tasks.arms.untreated import Untreated, in_the_same_rounds, untreated
from src.tasks.latency import (
    admitted,
    compare_outputs,
    fastest,
    fill_in,
    finish,
    keep_rounds,
    measure_and_conclude,
    timed_of,
    treated_arm,
)

Turn = Callable[[RunContext], AbstractContextManager[None]]
_QUANTIZING = {"memory/quantize_peak_gib", "memory/quantize_peak_reserved_gib"}


@dataclass
class _Ready:
    """A run whose arms wait for the rounds."""

    run: RunContext
    arms: Untreated
    treated: Arm
    compiled: Compiled  # before the rounds


@torch.no_grad()
def measure_together(runs: Sequence[RunContext], turn: Turn) -> Iterator[RunContext]:
    """Measure runs that differ in their treatment alone, and fill their records.

    Args:
        runs: of one workload, one compile mode and one measuring protocol; the arms of all fit on the device.
        turn: what is done for one run is done in its turn, where whatever is raised is the end of that run.

    Yields:
        Each run as soon as it has ended.
    """
    first = runs[0]
    with compiler_options(first.cfg.compile, first.cfg.quant, first.device.kind):
        ready: list[_Ready] = []
        for run in runs:
            waiting = len(ready)
            with turn(run):
                found = _prepared(run, ready)
                if found.arms.together:
                    compare_outputs(found.arms, found.treated, run)
                    ready.append(found)
                else:
                    measure_and_conclude(found.arms, run, found.treated)
                    finish(found.arms, run)
            if len(ready) == waiting:
                yield run
        timed = _timed(ready) if ready else []
        for each, own in zip(ready, timed, strict=True):
            compiled = replace(each.compiled, recompiles=own.rounds.recompiles)
            with turn(each.run):
                fill_in(own, compiled, each.arms, each.treated, each.run)
                finish(each.arms, each.run)
            yield each.run


def _prepared(run: RunContext, ready: Sequence[_Ready]) -> _Ready:
    """The run's arms, called once beside those that are ready."""
    before, known = compiler_counts(), graph_break_reasons()
    scheme = admitted(run)
    arms = in_the_same_rounds(ready[0].arms, run) if ready else untreated(run)
    treated = treated_arm(scheme, arms, run)
    beside_bytes = sum(each.treated.model_bytes for each in ready)
    treated.peaks = treated.peaks.less(beside_bytes)
    treated.compile_peaks = treated.compile_peaks.less(beside_bytes)
    for name in _QUANTIZING & run.record.metrics.keys():
        run.record.metrics[name] = max(0.0, round(run.record.metrics[name] - beside_bytes / GIB, 4))
    breaks = Counter(graph_break_reasons()) - Counter(known)
    return _Ready(run, arms, treated, Compiled(compiler_counts().since(before), dict(breaks), 0))


def _timed(ready: Sequence[_Ready]) -> list[Timed]:
    """Rounds of all arms, then the energy of each pair; the rounds are on disk whatever happens."""
    lead = ready[0]
    run, arms = lead.run, lead.arms
    baseline, rival = arms.baseline, arms.rival
    others = {rival.name: rival.call} if rival else {}
    rounds = [Rounds() for _ in ready]
    calls = [baseline.call, *(each.treated.call for each in ready), *others.values()]
    with watched(run.device, lambda: [call() for call in calls], run.compilers) as watch:
        run.report(f"measure {len(ready)} runs together")
        started = time.perf_counter()
        try:
            measure_jointly(
                baseline.call,
                [each.treated.call for each in ready],
                run.device,
                run.cfg.measure,
                conditions(run.cfg, watch.monitor),
                rounds=rounds,
                others=others,
            )
        finally:
            seconds = (time.perf_counter() - started) / len(ready)
            for each in ready:
                each.run.record.phases_s["measure"] = round(seconds, 4)
            rounds = [keep_rounds(own, each.run) for own, each in zip(rounds, ready, strict=True)]
        blocks = [
            power_blocks(fastest(arms, own, each.run), each.treated, own, watch.monitor, each.run)
            for own, each in zip(rounds, ready, strict=True)
        ]
    return [
        timed_of(own, block, watch, arms, each.treated, each.run)
        for own, block, each in zip(rounds, blocks, ready, strict=True)
    ]
