"""A cluster's queue without a cluster: takes arrays, starts nothing; states are what a test sets."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from src.config.errors import ConfigError
from src.config.schema.cluster import SlurmRequest
from src.jobs.backend import JobState


class Pool:
    name = "slurm"
    detached = True

    def __init__(
        self, largest: int = 1001, refuses: str = "", after: Callable[[], Any] = lambda: None
    ) -> None:
        """Args: refuses: a partition; after: called when an array is in, before its ids are handed out."""
        self.largest, self.refuses, self.after = largest, refuses, after
        self.before: Callable[[str], None] = lambda name: None
        self.arrays: dict[str, tuple[SlurmRequest, list[Path]]] = {}  # by name
        self.state = "PENDING"

    def submit(self, name: str, request: SlurmRequest, jobs: Sequence[Any], folder: Path) -> list[str]:
        self.before(name)
        if request.partition and request.partition == self.refuses:
            raise ConfigError(f"gpu.slurm.partition={request.partition}: invalid partition")
        self.arrays[name] = (request, [folder for job in jobs for folder in job.folders])
        self.after()
        array = self.find_by_name(name)
        return [f"{array}_{task}" for task in range(len(jobs))] if len(jobs) > 1 else [str(array)]

    def states(self, jobs: Collection[str]) -> dict[str, JobState]:
        return {job: JobState(self.state) for job in jobs}

    def cancel(self, jobs: Collection[str]) -> None:
        self.state = "CANCELLED"

    def find_by_name(self, name: str) -> str | None:
        return str(100 + list(self.arrays).index(name)) if name in self.arrays else None

    def max_array_size(self) -> int:
        return self.largest

    def placed(self, request: SlurmRequest) -> SlurmRequest:
        return request

    def sent(self) -> int:
        return sum(len(folders) for _, folders in self.arrays.values())
