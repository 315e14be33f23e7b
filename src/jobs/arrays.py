"""What the jobs of a sweep ask of the cluster, and their grouping into job arrays."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Protocol

from src.config.cluster_schema import SlurmRequest
from src.jobs.backend import Backend

_START_MIN = 10  # of a job beside its run's own time limit: imports, and the end in order


class ArrayBackend(Backend, Protocol):
    """A backend that takes job arrays."""

    @property
    def name(self) -> str:
        """What manifests say, and the folder of its logs: slurm."""
        ...

    def max_array_size(self) -> int:
        """The most jobs that an array may have."""
        ...

    def placed(self, request: SlurmRequest) -> SlurmRequest:
        """The request with what the backend finds out itself: where it has what is asked for.

        Raises:
            ConfigError: that is not clear; what to give.
        """
        ...


@dataclass
class JobArray:
    """Runs that ask for the same; sent to the cluster at once."""

    name: str  # unique: it finds the jobs again when their ids were never written down
    request: SlurmRequest
    runs: list[int] = field(
        default_factory=list
    )  # indices into the manifest's runs, in the order of the tasks

    def task(self, position: int) -> int | None:
        """The number in the array of the run at a position; a job of its own has none."""
        return position if len(self.runs) > 1 else None


class Grouping:
    """Deals runs out to arrays by what they ask for."""

    def __init__(self, sweep: str, usual: SlurmRequest, largest: int) -> None:
        """Args: usual: asked for where a run says nothing; largest: the most tasks that an array may have."""
        self.arrays: list[JobArray] = []
        self._sweep, self._usual, self._largest = sweep, usual, largest
        self._open: dict[str, JobArray] = {}

    def add(self, run: int, request: SlurmRequest, timeout_s: float) -> None:
        """Put a run, by its index in the manifest, into the array of its like."""
        wanted = merged(request, self._usual, timeout_s)
        kind = json.dumps(asdict(wanted), sort_keys=True, default=str)
        array = self._open.get(kind)
        if array is None or len(array.runs) == self._largest:
            array = self._open[kind] = JobArray(f"qp-{self._sweep}-{len(self.arrays)}", wanted)
            self.arrays.append(array)
        array.runs.append(run)


def merged(request: SlurmRequest, usual: SlurmRequest, timeout_s: float) -> SlurmRequest:
    """What a job asks for: what its GPU says, else what the launcher says.

    Args:
        request: the `gpu.slurm` of a run.
        usual: the launcher's.
        timeout_s: of the run; SLURM's limit comes later, so that a run is ended by its own, with a record.
    """
    values = {f.name: getattr(request, f.name) or getattr(usual, f.name) for f in fields(SlurmRequest)}
    values["extra"] = usual.extra | request.extra
    values["time_min"] = values["time_min"] or -int(-timeout_s // 60) + _START_MIN
    return SlurmRequest(**values)
