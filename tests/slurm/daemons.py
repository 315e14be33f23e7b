"""Processes that a cluster starts and ends: known by pid and start time, so that a reused pid is left alone."""

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

_PATIENCE_S = 60.0


class ClusterError(RuntimeError):
    """The cluster cannot do what was asked; the text says why."""


def spawn(command: list[str], log: Path, env: Mapping[str, str]) -> dict[str, float]:
    """Start a daemon that outlives this process; returns what `alive` knows it by."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
        )
    return {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}


def alive(daemon: Mapping[str, float] | None) -> psutil.Process | None:
    """The process, unless it has ended; None for none."""
    if daemon is None:
        return None
    try:
        process = psutil.Process(int(daemon["pid"]))
        same = abs(process.create_time() - daemon["created"]) < 2  # the clock may have been set since
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def end(daemons: Iterable[Mapping[str, float]]) -> None:
    """Ask all of them to end, wait, and kill those that do not."""
    daemons = list(daemons)
    for sign in (psutil.Process.terminate, psutil.Process.kill):
        running = [process for daemon in daemons if (process := alive(daemon))]
        for process in running:
            try:
                sign(process)
            except psutil.NoSuchProcess:
                continue
        if _until(lambda: not any(map(alive, daemons)), _PATIENCE_S):
            return


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, in this order; what has ended by itself is no error."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def of_jobs(conf: Path, node: str | None = None) -> list[psutil.Process]:
    """What runs for jobs of a cluster, of one node or of all: each slurmstepd, then the jobs' own processes.

    A job's processes have the cluster's SLURM_CONF and their node's name in their environment; the slurmstepd
    above them overwrites its own.
    """
    steps: dict[int, psutil.Process] = {}
    jobs: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            name = environ.get("SLURMD_NODENAME")
            if environ.get("SLURM_CONF") != str(conf) or not name or node not in (None, name):
                continue
            jobs[process.pid] = process
            above = (parent for parent in process.parents() if parent.name().startswith("slurmstepd"))
            steps |= {parent.pid: parent for parent in above}
        except psutil.Error:
            continue
    return [*steps.values(), *(process for pid, process in jobs.items() if pid not in steps)]


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = 200.0) -> None:
    """Wait for something to become true.

    Raises:
        ClusterError: it did not, in that time.
    """
    if not _until(condition, patience_s):
        raise ClusterError(f"waited {patience_s:g} s in vain: {what}")


def _until(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
