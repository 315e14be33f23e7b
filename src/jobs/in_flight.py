"""Runs that an earlier sweep sent and that are still queued or running: they are waited for, not sent again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from src.jobs.arrays import ArrayBackend
from src.jobs.states import FATES
from src.records.record import RECORD_NAME
from src.records.store import SweepManifest, iter_manifests, run_folder


@dataclass(frozen=True)
class Sent:
    """A run of an earlier sweep, and the job that it became."""

    run_key: str
    attempt: int
    job: str


def in_flight(outputs: Path, backend: ArrayBackend) -> dict[str, Sent]:
    """By run key, what earlier sweeps sent and is not over; of several attempts the newest.

    Args:
        backend: knows the jobs' states; only what was sent to it is looked at.
    """
    find = cache(backend.find_by_name)
    open_runs = [
        sent
        for _, manifest in iter_manifests(outputs)
        if isinstance(manifest, SweepManifest) and manifest.backend == backend.name
        for sent in _without_record(outputs, manifest, find)
    ]
    states = backend.states({sent.job for sent in open_runs}) if open_runs else {}
    alive = [sent for sent in open_runs if sent.job not in states or states[sent.job].state not in FATES]
    return {sent.run_key: sent for sent in sorted(alive, key=lambda sent: sent.attempt)}


def job_of(run: dict[str, Any], find: Callable[[str], str | None]) -> str | None:
    """A run's job: as the manifest says, else by the name of its array; None: it was never sent.

    Args:
        run: a manifest's entry.
        find: the backend's id of the array of a name.
    """
    if run.get("job") or not run.get("array"):
        return run.get("job")
    array = find(run["array"])
    if array is None or run.get("task") is None:
        return array
    return f"{array}_{run['task']}"


def _without_record(
    outputs: Path, manifest: SweepManifest, find: Callable[[str], str | None]
) -> Iterator[Sent]:
    for run in manifest.runs:
        folder = run_folder(outputs, run["run_key"], run["attempt"])
        if run["skipped"] or run.get("adopted") or (folder / RECORD_NAME).exists():
            continue
        job = job_of(run, find)
        if job is not None:
            yield Sent(run["run_key"], run["attempt"], job)
