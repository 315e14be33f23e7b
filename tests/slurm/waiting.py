"""Waiting for jobs in tests: every wait ends."""

import time
from collections.abc import Callable, Collection

from src.jobs.backend import JobState
from src.slurm.backend import states
from src.slurm.queue import OPEN, sacct
from tests.slurm.cluster import Cluster
from tests.slurm.daemons import wait_until

Reached = Callable[[JobState], bool]


def is_over(state: JobState) -> bool:
    return state.state not in OPEN


def wait_for(
    cluster: Cluster, jobs: Collection[str], reached: Reached = is_over, patience_s: float = 200.0
) -> dict[str, JobState]:
    """Ask until all jobs are as wished; returns their states then.

    Raises:
        AssertionError: they are not, after `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    with cluster.here():
        while True:
            found = states(jobs)
            if len(found) == len(set(jobs)) and all(map(reached, found.values())):
                return found
            assert time.monotonic() < deadline, f"after {patience_s:g} s: {found}"
            time.sleep(0.3)


def accounted(cluster: Cluster, jobs: Collection[str]) -> dict[str, JobState]:
    """What the accounting says of jobs that are over; it hears of that some seconds later."""
    arrays = sorted({job.partition("_")[0] for job in jobs})
    found: dict[str, JobState] = {}

    def told() -> bool:
        found.update(sacct(arrays) or {})
        return all(job in found and is_over(found[job]) for job in jobs)

    with cluster.here():
        wait_until(told, "the accounting does not say that the jobs are over")
    return {job: found[job] for job in jobs}


def sbatch(cluster: Cluster, script: str, *options: str) -> str:
    """Send a shell script; returns the job's id."""
    quiet = ("--parsable", "--output=/dev/null", "--mem=10M")
    return cluster.call("sbatch", *quiet, *options, f"--wrap={script}").strip()
