"""What the jobs of a sweep ask of the cluster, and their grouping into job arrays."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Protocol

from src.config.lines import runs_in_words
from src.config.schema.cluster import AUTO_RUNS, SlurmRequest
from src.jobs.backend import Backend

_START_MIN = 10  # of a job beside its runs' own time limits: imports, and the end in order
_PACKED_MIN = (
    360  # the longest limit that is asked for so that a job can do several runs: longer ones wait longer
)
_JOBS = 32  # that an array is split into before a job does more than one run: they may use that many GPUs


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
    run_min: int  # minutes that a run may take
    limit_min: int | None = None  # of a job, where somebody gave one
    runs: list[int] = field(
        default_factory=list
    )  # indices into the manifest's runs, in the order of the tasks
    per_job: int = 1  # runs that a job does in turn

    def jobs(self) -> list[list[int]]:
        """The runs of each job."""
        return [self.runs[at : at + self.per_job] for at in range(0, len(self.runs), self.per_job)]

    def place(self, position: int) -> dict[str, int | str | None]:
        """For the manifest, of the run at a position: array, its job's number there (of several), place in it."""
        task = position // self.per_job if len(self.runs) > self.per_job else None
        return {"array": self.name, "task": task, "place": position % self.per_job}

    @property
    def described(self) -> str:
        """How many runs in how many jobs, and what is asked for: ``3 runs with partition=gpu time_min=60``."""
        each = f" in {len(self.jobs())} jobs" if self.per_job > 1 else ""
        asked = {name: value for name, value in asdict(self.request).items() if value and name != "setup"}
        extra = asked.pop("extra", {})
        return f"{runs_in_words(len(self.runs))}{each} with " + " ".join(
            f"{k}={v}" for k, v in (asked | extra).items()
        )

    def pack(self, wanted: str) -> None:
        """Let each job do several runs, as many as is wanted and as its time limit holds.

        Args:
            wanted: a number; auto: so many that there are no more than `_JOBS` jobs.
        """
        most = ((self.limit_min or _PACKED_MIN) - _START_MIN) // self.run_min
        count = -(-len(self.runs) // _JOBS) if wanted == AUTO_RUNS else int(wanted)
        self.per_job = max(1, min(count, most))
        if self.limit_min is None:
            time_min = self.per_job * self.run_min + _START_MIN
            self.request = replace(self.request, time_min=time_min)


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
        kind = json.dumps([asdict(wanted), timeout_s], sort_keys=True, default=str)
        array = self._open.get(kind)
        if array is None or len(array.runs) == self._largest:
            name, given = f"qp-{self._sweep}-{len(self.arrays)}", request.time_min or self._usual.time_min
            array = self._open[kind] = JobArray(name, wanted, _minutes(timeout_s), given)
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
    values["time_min"] = values["time_min"] or _minutes(timeout_s) + _START_MIN
    return SlurmRequest(**values)


def _minutes(seconds: float) -> int:
    """Rounded up."""
    return -int(-seconds // 60)
