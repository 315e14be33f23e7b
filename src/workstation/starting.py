"""What surrounds the start of a process: what a job inherits, and signals that wait until it is written down."""

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

_OF_JOBS = ("SLURM_", "SUBMITIT_")  # variables


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP wait for the end of the block: what is started in it is also written down there."""
    came: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {sign: signal.signal(sign, lambda number, _: came.append(number)) for sign in held}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextlib.contextmanager
def apart(cwd: Path, cpus: Collection[int] | None) -> Iterator[None]:
    """What a job that starts now inherits: a folder; its CPUs; no job of SLURM's; deaf to Ctrl-C and to a closed
    terminal, as it is the pool that ends it, in order.
    """
    allowed = os.sched_getaffinity(0)
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_OF_JOBS)}
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        os.sched_setaffinity(0, cpus or allowed)
        with contextlib.chdir(cwd):
            yield
    finally:
        os.sched_setaffinity(0, allowed)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.environ.update(taken)
