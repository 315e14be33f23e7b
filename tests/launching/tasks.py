"""Tasks that go wrong, each in its way; named by tests/launching/conf/task."""

import os
import signal
import time

from src.context import RunContext
from src.tasks.latency import measure_latency


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
    """Measures, but for the second of a run's processes, which is killed."""
    if run.record.details["process"]["number"] == 2:
        _out_of_memory_kill(run)
    measure_latency(run)
