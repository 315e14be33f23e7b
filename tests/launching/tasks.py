"""Tasks that go wrong, each in its way; named by tests/launching/conf/task."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import torch

from src.context import RunContext
from src.records.record import Outcome
from src.tasks.arms.arm import Arm
from src.tasks.arms.treated import Treatment
from src.tasks.arms.untreated import untreated
from src.tasks.joint import Turn, measure_together
from src.tasks.latency import measure_latency

_LEAKED: list[torch.Tensor] = []


def by_seed(run: RunContext) -> None:
    """What happens is chosen by the seed, so that one sweep holds every fate."""
    fates = [measure_latency, _raise, _segfault, _out_of_memory_kill, _hang, _torch_out_of_memory]
    fates[run.cfg.seed](run)


def _raise(run: RunContext) -> None:
    raise ZeroDivisionError("a bug")


def _segfault(run: RunContext) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _out_of_memory_kill(run: RunContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(run: RunContext) -> None:
    run.report("hanging")
    time.sleep(600)


def _torch_out_of_memory(run: RunContext) -> None:
    import torch

    torch.empty(1 << 60)


def dies_in_the_second_process(run: RunContext) -> None:
    """Measures undisturbed, but for the second of a run's processes, which is killed."""
    if run.record.details["process"]["number"] == 2:
        _out_of_memory_kill(run)
    measure_latency(run)
    run.record.details["withheld"] = False  # however busy the machine of the tests is


def by_rule(run: RunContext) -> None:
    """What happens is chosen by a rule for layers, in which runs that share a process may differ."""
    fates = [_measure, _set, _exit, _fork, _leak, _out_of_memory_kill, _hang, _wait, _measure, _measure]
    fates[run.cfg.quant.layers.min_m](run)


def neutral_pair(run: RunContext) -> None:
    """An equal pair whose verdict no machine can disturb."""
    untreated(run)
    run.record.outcome, run.record.verdict = Outcome.OK, "neutral"
    run.record.details["equal"] = True


def pair_that_ends_unequal(run: RunContext) -> None:
    neutral_pair(run)
    if run.record.run_key.endswith("last"):
        run.record.verdict = "hurts"
        run.record.details["equal"] = False


def pair_that_begins_unequal(run: RunContext) -> None:
    neutral_pair(run)
    run.record.verdict = "inconclusive"
    run.record.details["equal"] = False


def _measure(run: RunContext) -> None:
    measure_latency(run)


def _set(run: RunContext) -> None:
    measure_latency(run)
    torch.set_float32_matmul_precision("high")


def _exit(run: RunContext) -> None:
    os._exit(3)


def _fork(run: RunContext) -> None:
    if os.fork() == 0:
        time.sleep(600)
    measure_latency(run)


def _leak(run: RunContext) -> None:
    measure_latency(run)
    _LEAKED.append(torch.ones(3 * 2**27))  # 1.5 GiB


def _wait(run: RunContext) -> None:
    """Until somebody says go."""
    run.report("waiting")
    while not (Path(run.cfg.outputs) / "go").exists():
        time.sleep(0.01)
    measure_latency(run)


def dies_together(runs: Sequence[RunContext], turn: Turn) -> Iterator[RunContext]:
    """Ends its process in the middle of the rounds of several runs."""
    _out_of_memory_kill(runs[0])
    yield runs[0]


def lacks_memory_together(runs: Sequence[RunContext], turn: Turn) -> Iterator[RunContext]:
    """Beside other arms there is no memory for that of int8dq."""
    made = Treatment.arm

    def arm(treatment: Treatment) -> Arm:
        if treatment.run.cfg.quant.name == "int8dq":
            raise torch.OutOfMemoryError("out of memory")
        return made(treatment)

    with patch.object(Treatment, "arm", arm):
        yield from measure_together(runs, turn)
