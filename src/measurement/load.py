"""Who else used the CPU while something was measured: a busy neighbour stalls threads at every barrier."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TOLERANCE_CPUS = 0.25  # of one CPU: the system's own housekeeping
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")  # each CPU's times are counted in these


@dataclass
class Load:
    """CPUs in use on average: by this process, and by everything else on the machine (stolen time among it)."""

    own_cpus: float = 0.0
    foreign_cpus: float = 0.0
    cpus: int = 1
    seconds: float = 0.0

    def crowds(self, threads: int) -> bool:
        """Whether others took CPU time that `threads` busy threads would have needed, beyond the kernel's ticks."""
        uncertain_cpus = self.cpus * _TICK_S / max(self.seconds, 1e-9)
        return self.foreign_cpus > max(0, self.cpus - threads) + _TOLERANCE_CPUS + uncertain_cpus


@contextmanager
def cpu_load() -> Iterator[Load]:
    """Measure the load of what happens inside; filled in when the block ends."""
    load = Load(cpus=os.cpu_count() or 1)
    started, busy, own = time.perf_counter(), _busy_s(), time.process_time()
    try:
        yield load
    finally:
        load.seconds = max(time.perf_counter() - started, 1e-9)
        load.own_cpus = (time.process_time() - own) / load.seconds
        load.foreign_cpus = max(0.0, (_busy_s() - busy) / load.seconds - load.own_cpus)


def _busy_s() -> float:
    """CPU seconds since boot that were not idle, of all CPUs together (man 5 proc_stat)."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_S
