"""Who else used the CPU while something was measured: a busy neighbour stalls threads at every barrier."""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.devices.cores import CPUS_ROOT, cores_of

_TOLERANCE_CPUS = 0.25  # of one CPU: the system's own housekeeping
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")  # each CPU's times are counted in these


@dataclass
class Load:
    """CPUs in use on average: by this process, and by everything else on those that it may use (stolen time among
    it). A GPU's run in a sweep of several devices may use its device's share of the cores only.
    """

    own_cpus: float = 0.0
    foreign_cpus: float = 0.0
    cpus: int = 1
    seconds: float = 0.0
    per_core: int = 1  # hardware threads of a core among the CPUs, each of which is called a CPU

    def crowds(self, threads: int) -> bool:
        """Whether others took CPU time that `threads` busy threads would have needed, beyond the kernel's ticks.

        Each thread needs a whole core: a neighbour on the core's other hardware thread takes half of it.
        """
        uncertain_cpus = self.cpus * _TICK_S / max(self.seconds, 1e-9)
        free_cpus = max(0, self.cpus - threads * self.per_core)
        return self.foreign_cpus > free_cpus + _TOLERANCE_CPUS + uncertain_cpus

    def in_words(self) -> str:
        """How many CPUs others used of how many."""
        threads = f" ({self.per_core} to a core)" if self.per_core > 1 else ""
        return f"{self.foreign_cpus:.1f} of {self.cpus} CPUs{threads}"


@contextmanager
def cpu_load(root: Path = CPUS_ROOT) -> Iterator[Load]:
    """Measure the load of what happens inside; filled in when the block ends. `root`: of the system's CPUs."""
    cpus = os.sched_getaffinity(0)
    load = Load(cpus=len(cpus), per_core=max(map(len, cores_of(cpus, root))))
    started, busy, own = time.perf_counter(), _busy_s(cpus), time.process_time()
    try:
        yield load
    finally:
        load.seconds = max(time.perf_counter() - started, 1e-9)
        load.own_cpus = (time.process_time() - own) / load.seconds
        load.foreign_cpus = max(0.0, (_busy_s(cpus) - busy) / load.seconds - load.own_cpus)


def _busy_s(cpus: Collection[int], stat: Path = Path("/proc/stat")) -> float:
    """Seconds since boot in which these CPUs were not idle, added up (man 5 proc_stat)."""
    names, ticks = {f"cpu{cpu}" for cpu in cpus}, 0
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for name, *counts in map(str.split, lines):
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks * _TICK_S
