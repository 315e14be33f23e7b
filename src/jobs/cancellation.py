"""Stopping a sweep in order: what waits first, then what runs; whole arrays; and a record for every run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from src.config.errors import ConfigError
from src.jobs.backend import Backend
from src.jobs.display import WAITING, in_words
from src.jobs.followed import FollowedRun, Following, Patience
from src.records.store import SweepManifest, is_alive

_POLL_S = 2.0


def cancel(
    manifest: SweepManifest,
    outputs: Path,
    backend: Backend,
    console: Console,
    patience: Patience | None = None,
) -> int:
    """Cancel a sweep's jobs and wait until they are over; runs that leave no record get one: killed.

    Runs that the sweep only waits for, as an earlier one sent them, are left alone.

    Returns:
        The exit status: 1 when some job has not ended within `Patience.end_s`.

    Raises:
        ConfigError: the sweep is still being sent, or the backend cannot cancel.
    """
    own = [run for run in manifest.runs if not run.get("adopted")]
    following = Following(replace(manifest, runs=own), outputs, backend, patience or Patience())
    following.read_all()
    if is_alive(manifest.driver) and any(run.job is None for run in following.open):
        raise ConfigError(
            f"sweep={manifest.sweep}: process {manifest.driver['pid']} is still sending it; "
            "end that first (Ctrl-C), then cancel"
        )
    for run in following.open:
        run.cancelled = True
    following.look()
    for run in following.doubtful:
        run.cancelled = False  # it was over before
    _say(console, f"sweep {manifest.sweep}: {in_words(following.runs)}")
    if others := len(manifest.runs) - len(own):
        _say(console, f"{others} runs that an earlier sweep sent are left alone")
    for jobs in _in_order(following.runs):
        backend.cancel(jobs)
    _await_end(following)
    killed = sum(run.recorded_here for run in following.runs)
    _say(console, f"sweep {manifest.sweep}: {in_words(following.runs)}; {killed} had left no record")
    return 1 if following.open else 0


def _in_order(runs: Sequence[FollowedRun]) -> Iterator[list[str]]:
    """All jobs of the arrays in which one waits, then all of those in which one runs: an array is cancelled whole."""
    arrays: dict[str, list[FollowedRun]] = {}
    for run in runs:
        if run.job is not None:
            arrays.setdefault(run.job.partition("_")[0], []).append(run)
    live = [array for array in arrays.values() if any(not run.done for run in array)]
    waits = [any(not run.done and run.state.state in WAITING for run in array) for array in live]
    for wanted in (True, False):
        jobs = [
            str(run.job)
            for array, waiting in zip(live, waits, strict=True)
            if waiting is wanted
            for run in array
        ]
        if jobs:
            yield jobs


def _await_end(following: Following) -> None:
    patience = following.patience
    deadline = patience.now() + patience.end_s
    following.look()
    while following.open and patience.now() < deadline:
        patience.sleep(min(patience.poll_s, _POLL_S))
        following.look()


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False)
