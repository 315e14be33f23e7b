"""What SLURM knows of jobs: one squeue, and where that is not enough one sacct, however many jobs there are."""

import os
import pwd
import re
import subprocess
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from src.jobs.backend import UNKNOWN, JobState

# States in which a job has not come to its end; SLURM's other words are final.
OPEN = frozenset(
    {
        "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
        "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD",
    }
)  # fmt: skip
_SQUEUE = {"JobArrayID": 64, "State": 24, "exit_code": 16, "RestartCnt": 12, "NodeList": 128, "Reason": 256}
_SACCT = ("JobID", "State", "ExitCode", "DerivedExitCode", "NodeList")
_KNOWS_NOTHING = re.compile(r"invalid job id|accounting storage is disabled", re.IGNORECASE)
_TIMEOUT_S = 120.0  # of one question: a busy slurmctld takes its time
_ABSENT = 127  # as the shell says of a command that is not there


def states(jobs: Collection[str]) -> dict[str, JobState]:
    """The state of each job.

    slurmctld is believed before the accounting, which lags and, where a job's end was never written, says RUNNING
    for ever. A job that neither knows is UNKNOWN; one that could not be asked about is left out.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    if not arrays:
        return {}
    live = squeue(arrays)
    told = {job for job in jobs if live and job in live and live[job].state in OPEN}
    kept = sacct(arrays) if len(told) < len(set(jobs)) else {}
    found = {job: _merged(job, live, kept) for job in jobs}
    return {job: state for job, state in found.items() if state}


def _merged(job: str, live: dict[str, JobState] | None, kept: dict[str, JobState] | None) -> JobState | None:
    """slurmctld's word, with what only the accounting tells: who cancelled the job. None: nobody could say."""
    recorded = (kept or {}).get(job)
    current = _live(job, live or {})
    if current is not None:
        same = recorded is not None and recorded.state == current.state
        return replace(current, reason=recorded.reason or current.reason) if recorded and same else current
    if recorded and recorded.state not in OPEN:
        return recorded
    if live is None or kept is None:
        return None
    return JobState(UNKNOWN, f"SLURM's accounting still says {recorded.state}" if recorded else "")


def _live(job: str, live: dict[str, JobState]) -> JobState | None:
    """`scancel -t PENDING ARRAY_TASK` cancels all that is pending; squeue then has the array without its tasks."""
    whole = live.get(job.partition("_")[0])
    return live.get(job) or (whole if whole and whole.state == "CANCELLED" else None)


def squeue(arrays: Sequence[str]) -> dict[str, JobState] | None:
    """What slurmctld has in memory of these arrays, ended jobs too for a while; None: it does not answer.

    Args:
        arrays: ids of arrays or of single jobs.
    """
    columns = ",".join(f"{name}:{width}" for name, width in _SQUEUE.items())
    wanted = f"--jobs={','.join(arrays)}"
    done = ask("squeue", "--noheader", "--array", "--states=all", wanted, f"--Format={columns}")
    if done.returncode:
        return {} if _KNOWS_NOTHING.search(done.stderr) else None
    return dict(_queued(_cut(line, _SQUEUE.values())) for line in done.stdout.splitlines() if line.strip())


def sacct(arrays: Sequence[str]) -> dict[str, JobState] | None:
    """What the accounting knows of these arrays; None: it has no answer now. Without slurmdbd nothing is known."""
    options = ("--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={','.join(_SACCT)}")
    done = ask("sacct", *options, f"--jobs={','.join(arrays)}")
    if done.returncode:
        return {} if done.returncode == _ABSENT or _KNOWS_NOTHING.search(done.stderr) else None
    found: dict[str, JobState] = {}
    for line in done.stdout.splitlines():
        shown, words, of_script, of_steps, node = line.split("|")
        exit_code = of_script if of_steps.endswith(":0") else of_steps
        for job in expanded(shown):  # a job that was started again has a line for each start, the newest last
            restarts = found[job].restarts + 1 if job in found else 0
            found[job] = JobState(_base(words), _by(words), exit_code, _node(node), restarts)
    return found


def expanded(job: str) -> list[str]:
    """The tasks that an id of SLURM's stands for: ``12_[4-7,9%2]`` -> 12_4, 12_5, 12_6, 12_7, 12_9."""
    array, _, tasks = job.partition("_")
    if not tasks.startswith("["):
        return [job]
    ranges = re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", tasks.partition("%")[0])
    return [
        f"{array}_{task}"
        for first, last, step in ranges
        for task in range(int(first), int(last or first) + 1, int(step or 1))
    ]


def ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands; one that is not there or takes too long is one that failed."""
    env = {n: v for n, v in os.environ.items() if not n.startswith(("SQUEUE_", "SACCT_", "SCANCEL_"))}
    env |= {"SLURM_BITSTR_LEN": "0"}  # array expressions in full
    try:
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, _ABSENT, "", f"{command[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: no answer in {_TIMEOUT_S:g} s")


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed says, in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"{done.args[0]} ended with exit status {done.returncode}"


def _queued(columns: Sequence[str]) -> tuple[str, JobState]:
    job, words, status, restarts, node, reason = columns
    state = _base(words)
    reason = "" if reason == "None" or state == "CANCELLED" else reason  # a cancelled job keeps its last one
    return job, JobState(state, reason, _exit_code(status), _node(node), int(restarts or 0))


def _exit_code(status: str) -> str:
    """Exit status and signal, as sacct writes them, of the status that `wait` gives.

    A step that a signal ends makes srun, and so the job, exit with 128 + the signal.
    """
    if not status.isdecimal():
        return status
    code, signal = int(status) >> 8, int(status) & 127
    return f"0:{code - 128}" if code > 128 and not signal else f"{code}:{signal}"


def _base(words: str) -> str:
    """The state without what SLURM adds: ``CANCELLED by 0``, ``CANCELLED+``."""
    return re.split(r"[^A-Z_]", words.strip(), maxsplit=1)[0] or UNKNOWN


def _by(words: str) -> str:
    """Who ended a job: ``by root`` of ``CANCELLED by 0``; of a user unknown to this machine the number."""
    by = words.partition(" ")[2]
    try:
        return f"by {pwd.getpwuid(int(by.removeprefix('by '))).pw_name}"
    except (ValueError, KeyError, OverflowError):
        return by


def _node(words: str) -> str:
    return "" if words in ("None assigned", "(null)", "n/a") else words


def _cut(line: str, widths: Iterable[int]) -> list[str]:
    columns, start = [], 0
    for width in widths:
        columns.append(line[start : start + width].strip())
        start += width
    return columns
