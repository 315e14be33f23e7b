"""Who runs a run: ``claim.json`` in its folder, so that a run that is started twice has one record.

SLURM starts a job again when its node no longer answers, also where the node goes on computing: the later start takes
the claim over, and the earlier one sees that and leaves.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.records.record import RECORD_NAME, write_json

CLAIM_NAME = "claim.json"
SIGNALLED = "SIGUSR2: the job's time limit was near, or SLURM preempted it"
TERMINATED = "SIGTERM: SLURM preempted or cancelled the job"
VANISHED = "it left no word: its node failed, or it was killed"
_OTHER_NOTICES_S = 15.0  # within which an earlier start sees the later one's claim, or has its record seen


class ClaimLostError(Exception):
    """A later start of the same run has taken it over."""


@dataclass(frozen=True)
class Claim:
    """One start of a run."""

    job: str
    restart: int  # 0 for the first start
    node: str
    pid: int
    started: str
    left: str = ""  # why this start ended without a record; empty: it is on, or it vanished
    earlier: list[dict[str, Any]] = field(default_factory=list)  # the starts before, oldest first

    @classmethod
    def of_this_process(cls, environ: Mapping[str, str] = os.environ) -> "Claim":
        """What SLURM's variables, or those of submitit's local executor, say of this process."""
        array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
        single = environ.get("SLURM_JOB_ID") or environ.get("SUBMITIT_LOCAL_JOB_ID", "")
        return cls(
            f"{array}_{task}" if array and task else single,
            int(environ.get("SLURM_RESTART_COUNT") or 0),
            environ.get("SLURMD_NODENAME") or platform.node(),
            os.getpid(),
            datetime.now(UTC).isoformat(),
        )

    def reasons(self) -> list[str]:
        """Why each of the earlier starts ended, oldest first."""
        return [start.get("left") or VANISHED for start in self.earlier]


def take(folder: Path, claim: Claim, sleep: Callable[[float], None] = time.sleep) -> Claim | None:
    """Claim a run for this start; nothing when an earlier start has recorded it.

    Args:
        sleep: waits; an earlier start that may still be on gets the time to notice.
    """
    before = read_claim(folder)
    if before is not None:
        known = {name: value for name, value in asdict(before).items() if name != "earlier"}
        claim = replace(claim, earlier=[*before.earlier, known])
    write_json(folder / CLAIM_NAME, asdict(claim))
    if before is not None and not before.left:
        sleep(_OTHER_NOTICES_S)
    return None if recorded(folder) else claim


def read_claim(folder: Path) -> Claim | None:
    """The claim in a run's folder; nothing when there is none, or none that can be read."""
    try:
        content = json.loads((folder / CLAIM_NAME).read_text(encoding="utf-8"))
        known = {f.name for f in fields(Claim)}
        return Claim(**{name: value for name, value in content.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def check_claim(folder: Path, claim: Claim) -> None:
    """Look whether a run is still claimed by this start; a claim that cannot be read is no other's.

    Raises:
        ClaimLostError: it is another's.
    """
    found = read_claim(folder)
    if found is not None and (found.started, found.pid, found.node) != (claim.started, claim.pid, claim.node):
        raise ClaimLostError(f"job {found.job} runs it on {found.node} since {found.started}")


def leave(folder: Path, why: str) -> None:
    """Note in the run's claim that its start ends now without a record, and why.

    The first word stands: SLURM sends SIGTERM to a job that SIGUSR2 has just had requeued.
    """
    found = read_claim(folder)
    if (
        found is not None
        and not found.left
        and (found.pid, found.node) == (os.getpid(), Claim.of_this_process().node)
    ):
        write_json(folder / CLAIM_NAME, asdict(replace(found, left=why)))


def signalled(folder: Path) -> bool:
    """Whether this process was told by SIGUSR2 that its start of a run is at its end."""
    found = read_claim(folder)
    own = (os.getpid(), Claim.of_this_process().node)
    return found is not None and found.left == SIGNALLED and (found.pid, found.node) == own


def recorded(folder: Path) -> bool:
    """Whether a run has a record, also where another machine has just written it.

    A network file system remembers for a while that a file was not there; listing the folder asks anew.
    """
    return any(file.name == RECORD_NAME for file in folder.iterdir())
