"""What SLURM's states mean for a run that left no record: the outcome, the reason, the remedy, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from src.jobs.backend import UNKNOWN, JobState
from src.records.identity import read_identity
from src.records.record import Outcome
from src.records.store import sweep_folder

ABANDONED = "ABANDONED"  # no word of SLURM's: it waited for a device in a process that is gone
_AGAIN = "run the sweep's command again: what is recorded is skipped"
_LOG = "{log} has its last words; run the sweep's command again"
_MORE_MEMORY = "a larger gpu.slurm.mem_gib or hydra.launcher.mem_gib"
_LOGS = ("slurm/{job}_0_log.out", "submitit_local/{job}/*_0_log.out")  # submitit's, in the sweep's folder
_LOG_LINE = 200  # characters of it in a reason


@dataclass(frozen=True)
class Fate:
    """How a run ended whose job is over; `reason` and `remedy` may name {job} {by} {exit} {node} {log} {said}."""

    outcome: Outcome
    reason: str
    remedy: str = _AGAIN


# A job in any other state (PENDING, RUNNING, REQUEUED, COMPLETING, SUSPENDED, ...) may yet leave a record.
FATES: Mapping[str, Fate] = {
    "TIMEOUT": Fate(
        Outcome.TIMEOUT,
        "SLURM ended job {job} at its time limit{node}",
        "a larger gpu.slurm.time_min or hydra.launcher.time_min",
    ),
    "DEADLINE": Fate(Outcome.TIMEOUT, "SLURM ended job {job} at its deadline{node}", "a later deadline"),
    "OUT_OF_MEMORY": Fate(
        Outcome.OOM, "SLURM ended job {job}: more of the host's memory than it may take{node}", _MORE_MEMORY
    ),
    "CANCELLED": Fate(Outcome.KILLED, "job {job} was cancelled{by}"),
    "FAILED": Fate(Outcome.KILLED, "job {job} failed with exit code {exit}{node}{said}", _LOG),
    "BOOT_FAIL": Fate(Outcome.KILLED, "job {job}: its node did not start{node}"),
    "NODE_FAIL": Fate(Outcome.KILLED, "job {job}: its node failed, and it was not requeued{node}"),
    "PREEMPTED": Fate(Outcome.KILLED, "job {job} was preempted, and not requeued{node}"),
    "COMPLETED": Fate(
        Outcome.FAILED,
        "job {job} is complete and left no record{node}{said}",
        "are outputs={outputs} on a file system that the nodes share? {log} has its last words",
    ),
    ABANDONED: Fate(Outcome.LOST, "job {job} was never started: whoever ran the sweep ended before"),
    UNKNOWN: Fate(Outcome.LOST, "neither squeue nor sacct knows job {job}, and the run left no record"),
}
NOT_REACHED = Fate(
    Outcome.LOST, "job {job}, {state}, was to do other runs first and did not come to this one{node}"
)
NEVER_SENT = Fate(Outcome.LOST, "it was never sent to the cluster: whoever sent the sweep ended before")
CANCELLED = Fate(Outcome.KILLED, "cancelled by src.collect")

_KILLED = Fate(
    Outcome.KILLED,
    "job {job} failed with exit code {exit}, a kill: the memory limit, or an administrator{node}",
    f"{_MORE_MEMORY}, if it was that; {_LOG}",
)
_TOO_SHORT = Fate(
    Outcome.TIMEOUT,
    "job {job} failed with exit code {exit}: its time limit was near before the run had begun{node}",
    "a larger gpu.slurm.time_min or hydra.launcher.time_min",
)
_NO_LOG = Fate(
    Outcome.KILLED,
    "job {job} failed with exit code {exit}: its log could not be opened{node}",
    "are outputs={outputs} on a file system that the nodes share?",
)
# FAILED with these: exit status and signal, as SLURM writes them; 128 and the signal, as srun does.
_EXITS: Mapping[str, Fate] = {
    "0:9": _KILLED,
    "9:0": _KILLED,
    "137:0": _KILLED,
    "0:12": _TOO_SHORT,  # SIGUSR2
    "12:0": _TOO_SHORT,
    "140:0": _TOO_SHORT,
    "0:53": _NO_LOG,  # as sacct says it, and as squeue does
    "15:53": _NO_LOG,
}

# Reasons for which a job stays pending until somebody acts.
STUCK = frozenset(
    {
        "AccountNotAllowed", "AssocGrpCPUMinutesLimit", "AssocGrpGRESMinutes", "AssocMaxWallDurationPerJobLimit",
        "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "JobHeldAdmin",
        "JobHeldUser", "JobHoldMaxRequeue", "PartitionConfig", "PartitionDown", "PartitionInactive",
        "PartitionNodeLimit",
        "PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "QOSNotAllowed", "QOSUsageThreshold",
        "launch_failed_requeued_held",
    }
)  # fmt: skip


def described(fate: Fate, state: JobState, job: str, folder: Path) -> Fate:
    """The fate with everything filled in that SLURM, the run's folder and the job's log say.

    Args:
        fate: of `FATES`.
        state: the job's last.
    """
    outputs = folder.parents[2]
    log = _log(folder, outputs, job)
    fate = _EXITS.get(state.exit_code, fate) if fate is FATES["FAILED"] else fate
    words = {
        "job": job,
        "state": state.state,
        "by": f" {state.reason}" if state.reason.startswith("by ") else "",
        "exit": state.exit_code or "unknown",
        "node": f" (on {state.node})" if state.node else "",
        "log": log,
        "said": _last_line(log),
        "outputs": outputs,
    }
    return Fate(fate.outcome, fate.reason.format(**words), fate.remedy.format(**words))


def _log(folder: Path, outputs: Path, job: str) -> Path:
    """Where submitit lets the job write; the run's own log where the sweep that sent it is not known."""
    own = folder / "run.log"
    try:
        sweep = sweep_folder(outputs, read_identity(folder).sweep)
    except (OSError, ValueError):
        return own
    return next((log for pattern in _LOGS for log in sweep.glob(pattern.format(job=job))), own)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:_LOG_LINE]}" if last else ""
