"""The task `latency` for several runs of one workload at once: all treated arms in the same rounds, one baseline."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from src.compilation.scopes import Compiled, compiler_counts, compiler_options, graph_break_reasons
from src.context import RunContext
from src.devices.device import GIB
from src.records.record import Outcome
from src.tasks.arms.arm import Arm
from src.tasks.arms.loops import jointly, watched_run
from src.tasks.arms.side_by_side import SideBySide
from src.tasks.arms.timing import Timed
from src.tasks.arms.treated import Treatment
from src.tasks.arms.untreated import Untreated, in_the_same_rounds, untreated
from src.tasks.latency import admitted, compare_outputs, fill_in, finish, measure_arm

Turn = Callable[[RunContext], AbstractContextManager[None]]
_QUANTIZING = {"memory/quantize_peak_gib", "memory/quantize_peak_reserved_gib"}


@dataclass
class _Ready:
    """A run whose arms wait for the rounds."""

    run: RunContext
    given: Untreated
    treated: Arm
    compiled: Compiled  # before the rounds

    @property
    def arms(self) -> SideBySide:
        """Its unquantized arms."""
        return self.given.side_by_side


@torch.no_grad()
def measure_together(runs: Sequence[RunContext], turn: Turn) -> Iterator[RunContext]:
    """Measure runs that differ in their treatment alone, and fill their records.

    Args:
        runs: of one workload, one compile mode and one measuring protocol; the arms of all fit on the device.
        turn: what is done for one run is done in its turn, where whatever is raised is the end of that run.

    Yields:
        Each run as soon as it has ended; not one for whose arm there was no memory beside the others'.
    """
    first = runs[0]
    with compiler_options(first.cfg.compile, first.cfg.quant, first.device.kind):
        ready: list[_Ready] = []
        for run in runs:
            waiting = len(ready)
            with turn(run):
                found = _prepared(run, ready)
                if found.given.arms.together:
                    compare_outputs(found.given, found.treated, run)
                    ready.append(found)
                else:
                    measure_arm(found.given, found.treated, run)
                    finish(found.treated.rows, run)
            if len(ready) == waiting and not (ready and run.record.outcome is Outcome.OOM):
                yield run  # what does not fit beside others' arms may fit by itself
        timed = _timed(ready) if ready else []
        for each, own in zip(ready, timed, strict=True):
            compiled = replace(each.compiled, recompiles=own.rounds.recompiles)
            with turn(each.run):
                fill_in(own, compiled, each.given, each.treated, each.run)
                finish(each.treated.rows, each.run)
            yield each.run


def _prepared(run: RunContext, ready: Sequence[_Ready]) -> _Ready:
    """The run's arms, called once beside those that are ready."""
    before, known = compiler_counts(), graph_break_reasons()
    scheme = admitted(run)
    given = in_the_same_rounds(ready[0].given, run) if ready else untreated(run)
    treated = Treatment(scheme, given, run).arm()
    beside_bytes = sum(each.treated.model_bytes for each in ready)
    treated.peaks = treated.peaks.less(beside_bytes)
    treated.compile_peaks = treated.compile_peaks.less(beside_bytes)
    for name in _QUANTIZING & run.record.metrics.keys():
        run.record.metrics[name] = max(0.0, round(run.record.metrics[name] - beside_bytes / GIB, 4))
    breaks = Counter(graph_break_reasons()) - Counter(known)
    return _Ready(run, given, treated, Compiled(compiler_counts().since(before), dict(breaks), 0))


def _timed(ready: Sequence[_Ready]) -> list[Timed]:
    """Rounds of all arms, then the energy of each pair; the rounds are on disk whatever happens."""
    run, unquantized = ready[0].run, ready[0].arms.unquantized
    treated = [each.treated for each in ready]
    with watched_run(run, *(arm.call for arm in (*unquantized, *treated))) as watch:
        rounds = jointly(unquantized, treated, watch, [each.run for each in ready])
        blocks = [
            each.arms.power_blocks(each.treated, own, watch.monitor, each.run)
            for each, own in zip(ready, rounds, strict=True)
        ]
    return [
        each.arms.timed(each.treated, own, block, watch, each.run)
        for each, own, block in zip(ready, rounds, blocks, strict=True)
    ]
