"""Where a cluster has the GPUs that a job asks for: the partition, if the default one has none of that kind."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from src.config.errors import ConfigError
from src.config.schema.cluster import SlurmRequest
from src.slurm.queue import ask

_FORMAT = "%P|%a|%G"  # name with * behind the default, whether it is up, generic resources of its nodes


@dataclass(frozen=True)
class Partition:
    """A partition that this user may use."""

    name: str
    is_default: bool
    is_up: bool
    gres: str  # of some of its nodes: gpu:h100:8(S:0-1),shard:8

    def has(self, gres: str) -> bool:
        """Whether these nodes have all that is asked for, in kind: ``gpu:h100:1``, ``gpu:2``."""
        there = [_kind(each) for each in self.gres.split(",")]
        wanted = [_kind(each) for each in gres.split(",")]
        return all(any(name == n and kind in ("", k) for n, k in there) for name, kind in wanted)


def placed(request: SlurmRequest) -> SlurmRequest:
    """The request with the partition that has its GPUs, where it names none and the default one has none of them.

    Raises:
        ConfigError: several partitions have them; which, and what to give.
    """
    if request.partition or not request.gres or "SBATCH_PARTITION" in os.environ:
        return request
    known = partitions()
    having = [each for each in known if each.is_up and each.has(request.gres)]
    names = sorted({each.name for each in having})
    if not names or any(each.is_default for each in having):
        return request
    if len(names) == 1:
        return replace(request, partition=names[0])
    usual = next((each.name for each in known if each.is_default), "none")
    raise ConfigError(
        f"gpu.slurm.partition=null: the default partition ({usual}) has no {request.gres}; give "
        f"gpu.slurm.partition=... or hydra.launcher.partition=..., of those that have it: {', '.join(names)}"
    )


def partitions() -> list[Partition]:
    """What sinfo lists for this user, a partition once for each kind of its nodes; empty: it does not answer."""
    return list(_read(ask("sinfo", "--noheader", f"--format={_FORMAT}").stdout.splitlines()))


def _read(lines: Iterable[str]) -> Iterable[Partition]:
    for line in lines:
        name, up, gres = (part.strip() for part in line.split("|", 2))
        yield Partition(name.removesuffix("*"), name.endswith("*"), up == "up", gres)


def _kind(gres: str) -> tuple[str, str]:
    """Name and type of one generic resource; no type: any."""
    name, _, rest = gres.partition("(")[0].strip().partition(":")
    kind = rest.partition(":")[0]
    return name, "" if kind.isdecimal() else kind
