"""SLURM as a backend, told by its own commands and by submitit; works with and without slurmdbd."""

import io
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from src.config.errors import ConfigError
from src.config.schema.cluster import SlurmRequest
from src.jobs.backend import JobState
from src.slurm.partitions import placed
from src.slurm.pickles import laid_out
from src.slurm.queue import OPEN, ask, complaint, squeue, states
from src.slurm.refusals import refusal

__all__ = ["SlurmBackend", "cancel", "check_available", "find_by_name", "max_array_size", "states"]

_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
_OVER_ALREADY = re.compile(r"invalid job id|already completing or completed", re.IGNORECASE)
_REFUSED = "BadConstraints"  # why a job failed that sbatch said no to, and that squeue shows for a while
_IDS_AT_ONCE = 500  # on a command line of scancel
_TIME_MIN = 60  # of a job whose request does not say
# sbatch's options by environment variable outrank those in a script: only defaults that nothing replaces are kept.
_DEFAULTS = {"SBATCH_ACCOUNT": "account", "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos"}
_NOT_OF_A_JOB = frozenset({"SLURM_CONF", "SLURM_CLUSTERS"})  # where SLURM is


@dataclass(frozen=True)
class SlurmBackend:
    """The cluster that SLURM's commands on this machine speak to.

    Args:
        array_parallelism: how many of an array's jobs may run at once.
        max_num_timeout: how often a job that reaches its time limit is sent again.
    """

    array_parallelism: int = 256
    max_num_timeout: int = 0
    name: ClassVar[str] = "slurm"
    detached: ClassVar[bool] = True

    def submit(
        self, name: str, request: SlurmRequest, jobs: Sequence[Callable[[], Any]], folder: Path
    ) -> list[str]:
        """Send jobs as one array; returns their ids in order.

        Args:
            name: of the array, unique: `find_by_name` finds it again.
            jobs: pickled by submitit, called on the node; with a method `checkpoint` they may be sent again.
            folder: on a file system that the nodes share; gets the pickles, and each job's output as
                ``<id>_0_log.out``.

        Raises:
            ConfigError: SLURM refuses it; then none of the jobs is left in its queue.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError

        executor = SlurmExecutor(folder, max_num_timeout=self.max_num_timeout)
        parameters = self._parameters(name, request) | _output(folder, request, array=len(jobs) > 1)
        parameters["setup"] = [
            *laid_out(name, jobs, folder, parameters["time"], self.max_num_timeout),
            *request.setup,
        ]
        executor.update_parameters(**parameters)
        try:
            with _outside_of_jobs(request), redirect_stderr(io.StringIO()):  # submitit prints what it raises
                sent = executor.submit_array(jobs)
        except FailedJobError as error:
            with suppress(ConfigError):
                _withdraw(name)
            raise refusal(str(error), request) from error
        return [str(job.job_id) for job in sent]

    def states(self, jobs: Collection[str]) -> dict[str, JobState]:
        """The state of each job; those that SLURM could not be asked about are left out."""
        return states(jobs)

    def cancel(self, jobs: Collection[str]) -> None:
        """Cancel jobs, whole arrays where all that is left of them is named."""
        cancel(jobs)

    def find_by_name(self, name: str) -> str | None:
        """The id of the array, or single job, that was sent by this name; None: none ever was."""
        return find_by_name(name)

    def max_array_size(self) -> int:
        """The most jobs that an array may have."""
        return max_array_size()

    def placed(self, request: SlurmRequest) -> SlurmRequest:
        """See `src.slurm.partitions.placed`."""
        return placed(request)

    def _parameters(self, name: str, request: SlurmRequest) -> dict[str, Any]:
        """What submitit writes into the batch script; None is left out of it."""
        return {
            "job_name": name,
            "partition": request.partition,
            "gres": request.gres,
            "constraint": request.constraint,
            "account": request.account,
            "qos": request.qos,
            "cpus_per_task": request.cpus_per_task,
            "mem": None if request.mem_gib is None else f"{math.ceil(request.mem_gib * 1024)}M",
            "time": request.time_min or _TIME_MIN,
            "ntasks_per_node": 1,
            "array_parallelism": self.array_parallelism,
            "signal_delay_s": min(90, 30 * (request.time_min or _TIME_MIN)),  # SIGUSR2, before the time limit
            "stderr_to_stdout": True,
            "comment": "quantpay",
            "wckey": None,  # submitit's own default is refused where keys are enforced
        }


def _output(folder: Path, request: SlurmRequest, *, array: bool) -> dict[str, Any]:
    """Where output goes, for the script and for srun in it: to SLURM a % in a path begins a placeholder."""
    cpus = request.cpus_per_task
    inherited = [f"--cpus-per-task={cpus}"] if cpus else []  # from 22.05 on it is not
    output = f"{str(folder.absolute()).replace('%', '%%')}/{'%A_%a' if array else '%j'}_0_log.out"
    return {
        "srun_args": [*inherited, f"--output={output}"],
        "additional_parameters": {"requeue": True, "output": output} | request.extra,
    }


def check_available() -> None:
    """Make sure that this machine can send jobs.

    Raises:
        ConfigError: SLURM's commands are not here, or its controller does not answer.
    """
    absent = [command for command in _COMMANDS if shutil.which(command) is None]
    if absent:
        raise ConfigError(
            f"hydra/launcher=slurm: no {', '.join(absent)} on PATH; run this on a login node of the cluster "
            "(perhaps after `module load slurm`), or here with hydra/launcher=local"
        )
    max_array_size()


def max_array_size() -> int:
    """The most jobs that one array may have.

    Raises:
        ConfigError: SLURM's controller does not answer.
    """
    done = ask("scontrol", "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    if found is None:
        raise ConfigError(
            f"hydra/launcher=slurm: {complaint(done)}; `scontrol ping` says whether SLURM is up"
        )
    return max(1, int(found.group(1)))  # 0: no arrays at all


def find_by_name(name: str) -> str | None:
    """The id of the array, or of the single job, that this user submitted under a name; None: there is none.

    Raises:
        ConfigError: SLURM cannot be asked.
    """
    own = (f"--name={name}", f"--user={os.getuid()}")
    queue = ask("squeue", "--noheader", "--states=all", *own, "--format=%F %r")
    if queue.returncode:
        raise ConfigError(f"looking for the job {name}: {complaint(queue)}")
    month = "--starttime=now-30days"
    kept = ask("sacct", "--noheader", "--parsable2", "--allocations", *own, month, "--format=JobID")
    queued = [line.split() for line in queue.stdout.splitlines()]
    ids = {words[0] for words in queued if _REFUSED not in words}
    ids |= {line.partition("_")[0] for line in kept.stdout.splitlines()}
    return min(ids, key=int, default=None)


def cancel(jobs: Collection[str]) -> None:
    """Cancel jobs; an array of which all that is left is named, or it itself, is cancelled as a whole.

    SLURM 22.05 forgets a single pending task that is cancelled: nothing knows it afterwards.

    Raises:
        ConfigError: SLURM refuses, or cannot be asked.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    live = squeue(arrays) if arrays else {}
    if live is None:
        raise ConfigError("SLURM's controller does not answer; `scontrol ping` says whether it is up")
    left = {job for job, state in live.items() if state.state in OPEN}
    targets: list[str] = []
    for array in arrays:
        own = {job for job in left if job.partition("_")[0] == array}
        named = own if array in jobs else own.intersection(jobs)
        targets += [array] if named and named == own else sorted(named)
    for start in range(0, len(targets), _IDS_AT_ONCE):
        done = ask("scancel", *targets[start : start + _IDS_AT_ONCE])
        refused = [line for line in done.stderr.splitlines() if not _OVER_ALREADY.search(line)]
        if done.returncode and refused:
            raise ConfigError(f"{len(targets)} jobs were to be cancelled: {refused[0]}")


def _withdraw(name: str) -> None:
    """Cancel what sbatch may have sent although it failed: its answer can be lost on the way."""
    sent = find_by_name(name)
    if sent is not None:
        ask("scancel", sent)


@contextmanager
def _outside_of_jobs(request: SlurmRequest) -> Iterator[None]:
    """As if this process were not in a job itself: its variables would reach, and change, those it sends."""
    unwanted = [name for name in os.environ if not _may_stay(name, request)]
    taken = {name: os.environ.pop(name) for name in unwanted}
    try:
        yield
    finally:
        os.environ.update(taken)


def _may_stay(name: str, request: SlurmRequest) -> bool:
    if name in _DEFAULTS:
        return not getattr(request, _DEFAULTS[name])
    return name in _NOT_OF_A_JOB or not name.startswith(("SLURM", "SBATCH_", "SRUN_", "SUBMITIT_"))
