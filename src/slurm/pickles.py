"""Pickles of jobs that are there before sbatch is asked, by the array's name.

submitit moves a pickle to where its job looks for it, by the id, only once sbatch has told that; jobs whose
driver dies in between would wait for it in vain.
"""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def laid_out(
    name: str, jobs: Sequence[Callable[[], Any]], folder: Path, time_min: int, max_num_timeout: int
) -> list[str]:
    """Write the pickles; returns shell lines by which each job finds its own where submitit's is not there yet.

    Args:
        jobs: in the order of the array's tasks.
        time_min: the jobs' time limit.
        max_num_timeout: how often a job that reaches it is sent again.
    """
    from submitit.core.utils import DelayedSubmission

    folder.mkdir(parents=True, exist_ok=True)
    for task, job in enumerate(jobs):
        delayed = DelayedSubmission(job)
        delayed.set_timeout(time_min, max_num_timeout)
        delayed.dump(folder / f"{name}-{task}.pkl")
    mine = f"{name}-${{SLURM_ARRAY_TASK_ID:-0}}.pkl"
    theirs = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}_submitted.pkl"
    return [f"ln -s {mine} {shlex.quote(str(folder))}/{theirs} 2>/dev/null || true"]
