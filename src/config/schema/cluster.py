"""The typed schema of what a run asks of a cluster, and of how a sweep is sent to one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_LEAST = {"min": 1}
_ASIDE = {"key": False}  # cannot change a measured number: not part of the run key


@dataclass
class SlurmRequest:
    """What one job asks of SLURM; null: what `hydra.launcher` says, else the cluster's own default."""

    partition: str | None = None
    gres: str | None = None  # generic resources: gpu:h100:1
    constraint: str | None = None  # node features
    account: str | None = field(default=None, metadata=_ASIDE)
    qos: str | None = field(default=None, metadata=_ASIDE)
    cpus_per_task: int | None = field(default=None, metadata=_LEAST)
    mem_gib: float | None = field(default=None, metadata={"min": 0.001})  # of the host, per node
    time_min: int | None = field(default=None, metadata=_LEAST | _ASIDE)  # null: measure.timeout_s + 10 min
    setup: list[str] = field(default_factory=list)  # shell lines before the run: module load cuda
    extra: dict[str, Any] = field(default_factory=dict)  # further options of sbatch: {exclude: node7}


@dataclass
class ClusterConf(SlurmRequest):
    """How a sweep is sent and followed; the inherited keys stand where `gpu.slurm` says nothing."""

    array_parallelism: int = field(default=256, metadata=_LEAST)  # of an array's jobs, at once
    runs_per_job: str = (
        "auto"  # runs in turn in one job; auto: one of up to 32 runs, then ever more, within 6 hours
    )
    wait: bool = True  # follow until every run has its record; false: send and return
    poll_s: float = field(default=10.0, metadata={"min": 0.2})  # between two looks at the queue
    max_num_timeout: int = field(default=1, metadata={"min": 0})  # a run at its time limit is sent again
    max_requeues: int = field(default=3, metadata={"min": 0})  # by SLURM: preemption, node failure


@dataclass
class PoolConf:
    """How a sweep runs side by side on the devices of one machine."""

    devices: list[Any] | None = None  # as CUDA_VISIBLE_DEVICES names them; null: all; []: the CPU
    time_min: int | None = field(default=None, metadata=_LEAST)  # of a run; null: measure.timeout_s + 10 min
    poll_s: float = field(default=1.0, metadata={"min": 0.2})  # between two looks at the devices
    # A run at its time limit is started again; submitit starts nothing more than six times.
    max_num_timeout: int = field(default=1, metadata={"min": 0, "max": 5})


AUTO_RUNS = "auto"


def problems_of_runs_per_job(conf: ClusterConf, path: str) -> Iterator[str]:
    """What is wrong with `runs_per_job`, one line; `path` ends with a dot."""
    given = conf.runs_per_job
    if given != AUTO_RUNS and not (given.isdecimal() and int(given) > 0):
        yield f"{path}runs_per_job={given}: accepted: auto, or a whole number of at least 1"


# Options of sbatch that the launcher sets itself, and those that have a key of their own.
_OWN = ("array", "chdir", "error", "job-name", "open-mode", "output", "signal", "wrap")
_KEYS = {
    "partition": "partition",
    "gres": "gres",
    "constraint": "constraint",
    "account": "account",
    "qos": "qos",
    "cpus-per-task": "cpus_per_task",
    "mem": "mem_gib",
    "time": "time_min",
}


def problems_of_extra(request: SlurmRequest, path: str) -> Iterator[str]:
    """What is wrong with `extra`, one line each; `path` ends with a dot."""
    for name, value in request.extra.items():
        option, shown = str(name).replace("_", "-"), f"{path}extra.{name}={value}"
        if option in _OWN:
            yield f"{shown}: the launcher sets --{option} itself; leave it out"
        elif option in _KEYS:
            yield f"{shown}: has a key of its own; give {path}{_KEYS[option]}=..."
        elif isinstance(value, list | dict) or value in (None, False):
            yield f"{shown}: an option's value is text or a number, or true for an option without one"
