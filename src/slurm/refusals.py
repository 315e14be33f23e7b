"""What SLURM says when it refuses a job, as an error that names the key, the value and what to do."""

import re
from collections.abc import Callable
from typing import Any

from src.config.errors import ConfigError, accepted
from src.config.schema.cluster import SlurmRequest
from src.slurm.queue import ask

_YOURS = "`sacctmgr show associations user=$USER format=account,partition,qos` lists what you may use"
_SIZE = ("partition", "gres", "constraint", "cpus_per_task", "mem_gib")


def _partitions(request: SlurmRequest) -> str:
    names = sorted(set(ask("sinfo", "--noheader", "--format=%R").stdout.split()))
    return accepted(request.partition or "", names)


# SLURM's words -> the keys that they are about, and what to do. The first that fits.
_REFUSALS: tuple[tuple[str, tuple[str, ...], str | Callable[[SlurmRequest], str]], ...] = (
    (r"invalid partition", ("partition",), _partitions),
    (r"invalid account|account/partition", ("account", "partition"), _YOURS),
    (r"invalid qos|job violates accounting", ("qos", "account"), _YOURS),
    (r"invalid feature", ("constraint",), "`sinfo -o '%P %f'` lists the features of each partition"),
    (r"gres|generic resource", ("gres",), "`sinfo -o '%P %G'` lists the GPUs of each partition"),
    (
        r"time limit",
        ("time_min",),
        "`sinfo -o '%P %l'` lists the limit of each partition, days-hours:minutes",
    ),
    (
        r"configuration (is )?not available|more processors|memory",
        _SIZE,
        "no node has all of that; `sinfo -o '%P %G %c %m %f'` lists GPUs, CPUs, MB of memory and features",
    ),
    (
        r"unable to contact|timed out|zero bytes",
        (),
        "`scontrol ping` says whether SLURM is up; then try again",
    ),
)


def refusal(said: str, request: SlurmRequest) -> ConfigError:
    """The error for what sbatch said of a request.

    Args:
        request: with the launcher's own values filled in.
    """
    lines = [re.sub(r"^sbatch: (error: )?(Batch job submission failed: )?", "", x) for x in said.splitlines()]
    words = "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())) or "no reason given"
    for pattern, keys, remedy in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            todo = remedy if isinstance(remedy, str) else remedy(request)
            return ConfigError(f"{_shown(request, keys)}: SLURM says: {words}; {todo}")
    return ConfigError(f"{_shown(request, tuple(vars(request)))}: SLURM says: {words}")


def _shown(request: SlurmRequest, keys: tuple[str, ...]) -> str:
    """The keys that are set, with their values; they may have come from hydra.launcher as well."""
    values = {key: getattr(request, key) for key in keys}
    given = {key: value for key, value in values.items() if value not in (None, [], {})} or values
    shown = " ".join(f"gpu.slurm.{key}={_text(value)}" for key, value in given.items())
    return f"{shown} (or hydra.launcher's)" if shown else "hydra/launcher=slurm"


def _text(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
