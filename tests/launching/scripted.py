"""A backend whose jobs go through given states, and a clock that only sleeping moves."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from src.config.schema.root import TrackingConf
from src.jobs.backend import UNKNOWN, JobState
from src.jobs.followed import Patience
from src.launching.publication import SweepPublisher
from src.records.identity import Identity
from src.records.record import Outcome, Record
from src.records.store import SweepManifest, next_attempt, run_folder

DEAD_DRIVER = {"host": "", "pid": 2**22 + 1, "started": "never"}


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0
        self.slept = 0
        self.at: dict[int, Callable[[], Any]] = {}  # by how often was slept: what happens then

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += max(seconds, 0.01)
        self.slept += 1
        assert self.slept < 10_000, "it waits for ever"
        self.at.pop(self.slept, lambda: None)()

    def patience(self, **seconds: Any) -> Patience:
        return Patience(sleep=self.sleep, now=self.now, **seconds)


class Scripted:
    """Each question takes every job one state further; the last one stays. None: nobody can be asked of it."""

    name = "scripted"
    detached = True

    def __init__(self, script: dict[str, Sequence[JobState | str | None]]) -> None:
        self.script = {job: list(states) for job, states in script.items()}
        self.names: dict[str, str] = {}
        self.cancelled: list[list[str]] = []
        self.asked = 0

    def submit(self, name: str, request: Any, jobs: Sequence[Any], folder: Path) -> list[str]:
        raise NotImplementedError

    def states(self, jobs: Collection[str]) -> dict[str, JobState]:
        self.asked += 1
        found = {}
        for job in jobs:
            states = self.script.get(job, [UNKNOWN])
            state = states.pop(0) if len(states) > 1 else states[0]
            if state is not None:
                found[job] = state if isinstance(state, JobState) else JobState(state)
        return found

    def cancel(self, jobs: Collection[str]) -> None:
        self.cancelled.append(sorted(jobs))
        for job in jobs:
            if self.script[job][-1] in ("PENDING", "RUNNING"):
                self.script[job] = ["CANCELLED"]

    def find_by_name(self, name: str) -> str | None:
        return self.names.get(name)


def make_manifest(
    outputs: Path, jobs: Sequence[str | None], sweep: str = "the-sweep", *, driven: bool = True
) -> SweepManifest:
    """A sweep of runs with these jobs, each with its folder and identity; driven by this process or by a dead one."""
    manifest = SweepManifest.start(sweep, ["python", "-m", "src.run", "-m"])
    manifest.backend = "slurm"
    if not driven:
        manifest.driver |= {"pid": 2**22 + 1}
    for number, job in enumerate(jobs):
        key = f"{number:016x}"
        attempt = next_attempt(outputs, key)
        manifest.add(key, attempt, skipped=False, job=job)
        axes = {"quant": f"q{number}", "compile": "none", "batch": 1, "model": "linear", "gpu": "h100"}
        Identity(key, attempt, sweep, axes, str(outputs)).write(run_folder(outputs, key, attempt))
    manifest.write(outputs)
    return manifest


def write_own(folder: Path, outcome: Outcome = Outcome.OK, seconds: int = 60) -> None:
    """The record that the run itself leaves."""
    record = Record(folder.parent.name, int(folder.name), "the-sweep", {"quant": "q", "gpu": "h100"}, outcome)
    record.environment = {"host": "h100-1"}
    record.started_at, record.finished_at = (
        "2026-01-02T03:00:00+00:00",
        f"2026-01-02T03:{seconds // 60:02d}:00+00:00",
    )
    record.write(folder)


def no_publisher(outputs: Path, manifest: SweepManifest) -> SweepPublisher:
    return SweepPublisher(TrackingConf("none", False, ""), manifest, outputs / "sweeps" / manifest.sweep)
