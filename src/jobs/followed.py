"""What is known of a sweep whose runs are jobs; what ended without a record gets one.

The record comes first, whatever the backend says of the job; `src.jobs.states` says what a job's end means.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from src.config.errors import ConfigError
from src.jobs.backend import UNKNOWN, Backend, JobState
from src.jobs.in_flight import job_of
from src.jobs.node.claims import read_claim, recorded
from src.jobs.states import ABANDONED, CANCELLED, FATES, NEVER_SENT, NOT_REACHED, Fate, described
from src.records.lost import record_end
from src.records.record import RECORD_NAME, Record, RecordError, read_record
from src.records.store import (
    MANIFEST_NAME,
    SweepManifest,
    is_alive,
    read_manifest,
    sweep_folder,
    this_process,
)

PENDING, NOT_SENT = "PENDING", "not sent yet"
_SETTLE_POLL_S = 2.0


@dataclass(frozen=True)
class Patience:
    """How long is waited for what; every wait has an end."""

    poll_s: float = 10.0  # between two looks
    late_s: float = 15.0  # a record may be seen this long after its job is over (network file systems)
    unknown_s: float = 30.0  # a job that nobody knows may appear yet
    unknown_looks: int = 3
    silent_s: float = 3600.0  # of a backend that cannot be asked, before following is given up
    end_s: float = 180.0  # of a cancelled job: SLURM's KillWait, and an epilog
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic


@dataclass(eq=False)
class FollowedRun:
    """One run of the sweep, as last seen."""

    folder: Path
    entry: dict[str, Any]  # of the manifest
    state: JobState = field(default_factory=lambda: JobState(PENDING))
    record: Record | None = None
    unreadable: str = ""
    recorded_here: bool = False  # by the follower, as the run left none
    over_since: float | None = None  # seconds of `Patience.now`: since then its job is over or unknown
    over_looks: int = 0
    told_at: float = 0.0  # when the backend last said anything about it
    cancelled: bool = False  # by whoever follows

    @property
    def job(self) -> str | None:
        """The id of its job; None: it was not sent, or whoever sent it has not written that down."""
        job: str | None = self.entry.get("job")
        return job

    @property
    def done(self) -> bool:
        """Whether there is a record, or a file in its place that cannot be read."""
        return self.record is not None or bool(self.unreadable)

    @property
    def status(self) -> int:
        """The exit status that the run stands for."""
        return 0 if self.record is not None and self.record.outcome.is_finding else 1

    def is_gone(self) -> bool:
        """Whether somebody has removed its folder; nothing comes of it then, and it is done."""
        if not self.folder.is_dir():
            self.unreadable = f"{self.folder}: gone"
        return bool(self.unreadable)

    def read(self) -> bool:
        """Read the record if there is one; whether there is."""
        try:
            self.record = read_record(self.folder / RECORD_NAME)
        except RecordError as error:
            self.unreadable = str(error)
        return self.done


@dataclass
class Following:
    """What is known of a sweep's runs; `look` brings it up to date and records what ended without a record."""

    manifest: SweepManifest
    outputs: Path
    backend: Backend
    patience: Patience = field(default_factory=Patience)
    runs: list[FollowedRun] = field(init=False)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        now = self.began = self.patience.now()
        folders = self.manifest.folders(self.outputs)
        entries = zip(folders, self.manifest.runs, strict=True)
        self.runs = [FollowedRun(folder, entry, told_at=now) for folder, entry in entries]
        self._drives = self.manifest.driver == this_process()
        self._unsent: JobState | None = JobState(UNKNOWN)  # the state of a run without a job

    @property
    def open(self) -> list[FollowedRun]:
        """The runs that are not done."""
        return [run for run in self.runs if not run.done]

    @property
    def doubtful(self) -> list[FollowedRun]:
        """Those of them whose jobs are over or unknown: soon there is a record, or they are found to be open."""
        return [run for run in self.open if run.over_since is not None]

    def silent(self) -> bool:
        """Whether nobody has said anything about any open run for too long."""
        now = self.patience.now()
        return all(now - run.told_at > self.patience.silent_s for run in self.open)

    def look(self) -> list[FollowedRun]:
        """Ask once, read what came, record what ended; returns the runs that are done since the last look."""
        self._refresh()
        asked = [run for run in self.open if run.job]
        states = self.backend.states({str(run.job) for run in asked}) if asked else {}
        now = self.patience.now()
        for run in self.open:
            self._hear(run, states, now)
        started = [run for run in self.open if run.state.state != PENDING or run.state.restarts]
        return [run for run in started if self._settle(run, now)]

    def read_all(self) -> list[FollowedRun]:
        """Read the records that are there already; returns those runs."""
        return [
            run
            for run in self.runs
            if not run.is_gone()
            and (run.entry["skipped"] or (run.folder / RECORD_NAME).exists())
            and run.read()
        ]

    def _refresh(self) -> None:
        """Learn the jobs that whoever sends the sweep has written down since, or could not before it died."""
        unsent = [run for run in self.open if run.job is None]
        if not unsent:
            return
        if not self._drives:
            with contextlib.suppress(RecordError):
                newer = read_manifest(sweep_folder(self.outputs, self.manifest.sweep) / MANIFEST_NAME)
                entries = dict(zip(newer.folders(self.outputs), newer.runs, strict=True))
                for run in unsent:
                    run.entry |= entries.get(run.folder, {})
        alive = False if self._drives else is_alive(self.manifest.driver)
        self._unsent = JobState(PENDING, NOT_SENT)
        if alive:
            return
        self._unsent = None if alive is None else JobState(UNKNOWN)  # None: it was on another host
        find = cache(self.backend.find_by_name)
        try:
            for run in unsent:
                run.entry["job"] = job_of(run.entry, find)
        except ConfigError:  # SLURM cannot be asked
            self._unsent = None

    def _hear(self, run: FollowedRun, states: Mapping[str, JobState], now: float) -> None:
        state = states.get(run.job) if run.job else self._unsent
        if state is None:  # nobody can be asked; what nobody knew may be known again
            if run.state.state == UNKNOWN:
                run.over_since, run.over_looks = None, 0
            return
        run.state, run.told_at = state, now
        if state.state in FATES:
            run.over_since = now if run.over_since is None else run.over_since
            run.over_looks += 1
        else:
            run.over_since, run.over_looks = None, 0

    def _settle(self, run: FollowedRun, now: float) -> bool:
        """Whether the run is done: it left a record, or its job has been over for long enough to write one here."""
        if (run.folder / RECORD_NAME).exists():
            return run.read()
        if run.over_since is None or not self._has_waited(run, now):
            return False
        if run.is_gone():
            return True
        if not recorded(run.folder):
            fate = described(_fate(run), run.state, run.job or "", run.folder)
            run.recorded_here = record_end(
                run.folder, self.manifest, fate.outcome, fate.reason, fate.remedy, **_details(run)
            )
        return run.read()  # its own, where that came in this very moment

    def _has_waited(self, run: FollowedRun, now: float) -> bool:
        waited_s = now - (now if run.over_since is None else run.over_since)
        if run.job is None or run.state.state == ABANDONED:
            return True
        if run.state.state == UNKNOWN:
            return waited_s >= self.patience.unknown_s and run.over_looks >= self.patience.unknown_looks
        return waited_s >= self.patience.late_s


def settle(
    manifest: SweepManifest, outputs: Path, backend: Backend, patience: Patience | None = None
) -> Following:
    """Record what is over of a sweep, without waiting for what goes on; returns what is known of its runs then.

    A job that is just over is waited for as long as its record may need to be seen.
    """
    following = Following(manifest, outputs, backend, patience or Patience())
    following.read_all()
    while following.open:
        following.look()
        if not following.doubtful:
            break
        following.patience.sleep(min(following.patience.poll_s, _SETTLE_POLL_S))
    return following


def _fate(run: FollowedRun) -> Fate:
    """What the end of its job means for a run that left no record."""
    if run.cancelled:
        return CANCELLED
    if not run.job:
        return NEVER_SENT
    waited = run.entry.get("place") and run.state.state not in (UNKNOWN, ABANDONED)
    return NOT_REACHED if waited and read_claim(run.folder) is None else FATES[run.state.state]


def _details(run: FollowedRun) -> dict[str, Any]:
    """What SLURM said, for the record."""
    state = run.state
    said: dict[str, str | int] = {"id": run.job or "", "state": state.state, "reason": state.reason}
    said |= {"node": state.node, "exit_code": state.exit_code, "restarts": state.restarts}
    return {"job": {name: value for name, value in said.items() if value}}
