"""Where jobs run: what SLURM and a pool of processes on this machine have in common."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from src.config.schema.cluster import SlurmRequest

UNKNOWN = "UNKNOWN"  # the state of a job that nobody knows (any more)


@dataclass(frozen=True)
class JobState:
    """What a backend says of a job, in SLURM's words."""

    state: str  # SLURM's base word: PENDING, RUNNING, COMPLETED, TIMEOUT, ...; UNKNOWN: nobody knows the job
    reason: str = ""  # SLURM's reason of a pending job, "by 1001" of a cancelled one, node of a failed one
    exit_code: str = ""  # "0:9": the exit status, the signal
    node: str = ""
    restarts: int = 0


class Backend(Protocol):
    """What runs jobs; a job's id is ``<array>_<task>``, or ``<id>`` for a group of one."""

    @property
    def detached(self) -> bool:
        """Whether jobs go on without the process that sent them; else Ctrl-C there ends them."""
        ...

    def submit(
        self, name: str, request: "SlurmRequest", jobs: Sequence[Callable[[], Any]], folder: Path
    ) -> list[str]:
        """Send jobs of one kind; returns their ids in the same order.

        Args:
            name: of the array; it finds the array again if this process dies before the ids are written down.
            jobs: what is pickled and called on the node.
            folder: for the backend's own files: pickles and logs.
        """
        ...

    def states(self, jobs: Collection[str]) -> dict[str, JobState]:
        """The state of each of these jobs; asks once, however many there are.

        A job that the backend does not know is UNKNOWN. A backend that cannot be asked leaves jobs out.
        """
        ...

    def cancel(self, jobs: Collection[str]) -> None:
        """Cancel these jobs; what is over already is no error."""
        ...

    def find_by_name(self, name: str) -> str | None:
        """The id of the array, or single job, that was sent by this name; None: none ever was."""
        ...
