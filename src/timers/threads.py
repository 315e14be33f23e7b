"""Computing threads bound to one CPU each while they are measured, so that the scheduler does not move them."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from src.devices.device import Device

_WATCHED_S = 0.05  # of work, to see which threads do it
_SHARE = 0.1  # of the busiest thread's time, for a thread to count as computing


@contextmanager
def pinned_threads(device: Device, work: Callable[[], Any]) -> Iterator[list[int]]:
    """Bind each thread that computes `work` to a CPU of its own; undone when the block ends.

    Yields:
        The CPUs, that of the main thread first; none on a GPU, with more threads than CPUs, or where the
        system forbids it.
    """
    cpus = placement()[: device.threads] if device.threads else []
    if not cpus or len(cpus) < (device.threads or 0):
        yield []
        return
    before: dict[int, set[int]] = {}
    with contextlib.suppress(PermissionError):
        for thread, cpu in zip(computing_threads(work), cpus, strict=False):
            affinity = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, {cpu})
            before[thread] = affinity
    try:
        yield cpus[: len(before)]
    finally:
        for thread, affinity in before.items():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, affinity)


def placement(root: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """The CPUs that this process may use, one of each core first, its further hardware threads after that."""
    taken: dict[str, int] = {}
    ranked = []
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = root / f"cpu{cpu}/topology/thread_siblings_list"
        core = siblings.read_text().strip() if siblings.exists() else str(cpu)
        ranked.append((taken.get(core, 0), cpu))
        taken[core] = taken.get(core, 0) + 1
    return [cpu for _, cpu in sorted(ranked)]


def computing_threads(work: Callable[[], Any]) -> list[int]:
    """Ids of the threads that share `work` and torch's parallel loops, the main thread first."""
    filler = torch.zeros(1 << 22)
    before, started = _cpu_ns(), time.perf_counter()
    while time.perf_counter() - started < _WATCHED_S:
        work()
        filler.add_(1.0)
    used = {thread: ns - before.get(thread, 0) for thread, ns in _cpu_ns().items()}
    busy = [thread for thread, ns in used.items() if ns >= _SHARE * max(used.values())]
    return sorted(busy, key=lambda thread: thread != os.getpid())


def _cpu_ns() -> dict[int, int]:
    """Nanoseconds that each thread of this process has run (man 5 proc_pid_schedstat)."""
    times = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            times[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return times
