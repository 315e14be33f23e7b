"""Made-up devices and tasks for the cluster of made-up GPUs; none of them imports torch.

Named by tests/slurm/conf. The tasks read `measure.budget_s` as how long they are to sleep.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.schema.root import GpuConf
from src.outcomes import unsupported
from src.records.record import Outcome

if TYPE_CHECKING:
    from src.context import RunContext

SEEN = ("SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_PARTITION", "SLURM_RESTART_COUNT", "TMPDIR")
_HOARD_BYTES = 3 * 2**29


@dataclass(frozen=True)
class Stub:
    """An opened device that nothing can be computed on."""

    name: str
    kind: str = "stub"
    memory_gib: float = 80.0
    compute_capability: float = 9.0

    def hardware(self) -> dict[str, Any]:
        return {}

    def synchronize(self) -> None:
        return None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class StubDevice:
    """A GPU by the name of the node that the job landed on; on any other node it is not there."""

    def __init__(self, conf: GpuConf) -> None:
        self.conf = conf

    def open(self) -> Stub:
        node = os.environ.get("SLURMD_NODENAME", "")
        if not node.startswith(self.conf.name):
            raise unsupported(f"gpu={self.conf.name}: this is node {node or 'none'}", "another partition")
        return Stub(f"made-up {self.conf.name}")


def seen(run: "RunContext") -> None:
    """Note what a job sees of the cluster and of its surroundings."""
    run.record.details["seen"] = {name: os.environ.get(name, "") for name in SEEN} | {"cwd": str(Path.cwd())}
    run.record.metrics["latency/median_ms"] = 1.0
    run.record.outcome = Outcome.OK


def sleep(run: "RunContext") -> None:
    """Sleep for `measure.budget_s`; notes from when to when, by a clock that nobody sets."""
    run.report(f"sleeping {run.cfg.measure.budget_s:g} s")
    started_s = time.monotonic()
    time.sleep(run.cfg.measure.budget_s)
    seen(run)
    run.record.details["span_s"] = [started_s, time.monotonic()]


def until_released(run: "RunContext") -> None:
    """Sleep until the file that RELEASE names is there, for `measure.budget_s` at most."""
    run.report("sleeping until released")
    started_s = time.monotonic()
    deadline = started_s + run.cfg.measure.budget_s
    while time.monotonic() < deadline and not Path(os.environ["RELEASE"]).exists():
        time.sleep(0.1)
    seen(run)
    run.record.details["span_s"] = [started_s, time.monotonic()]


def sleep_at_first(run: "RunContext") -> None:
    """Sleep in the first start of the job; a requeued one is quick."""
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        sleep(run)
    seen(run)


def by_seed(run: "RunContext") -> None:
    """What happens is chosen by the seed, so that one array holds every fate."""
    FATES[run.cfg.seed % len(FATES)](run)


def _raise(run: "RunContext") -> None:
    raise ZeroDivisionError("a bug")


def _kill_own_process(run: "RunContext") -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_whole_job(run: "RunContext") -> None:
    """What the kernel's out-of-memory killer or an admin does: the run's process and its parents vanish."""
    import psutil

    parents = psutil.Process().parents()
    step = next(index for index, parent in enumerate(parents) if parent.name().startswith("slurmstepd"))
    for parent in reversed(parents[:step]):
        parent.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def _hoard(run: "RunContext") -> None:
    """More of the host's memory than a job that asks for 1 GiB may have."""
    held = bytearray(b"x") * _HOARD_BYTES
    run.report(f"holding {len(held)} bytes")
    time.sleep(60)


# seed -> fate
FATES: tuple[Callable[["RunContext"], None], ...] = (
    seen,
    _raise,
    _kill_own_process,
    _kill_whole_job,
    sleep,
    _hoard,
)
