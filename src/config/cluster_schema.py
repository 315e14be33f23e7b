"""The typed schema of what a run asks of a cluster."""

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
    time_min: int | None = field(default=None, metadata=_LEAST | _ASIDE)
    setup: list[str] = field(default_factory=list)  # shell lines before the run: module load cuda
    extra: dict[str, Any] = field(default_factory=dict)  # further options of sbatch: {exclude: node7}
