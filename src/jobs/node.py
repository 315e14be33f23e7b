"""A run on a node: what submitit pickles by reference and calls there. Imports here must be cheap: no torch.

The run itself is in a child process, so that a crash, a kill or a hang of it is recorded by this one. SLURM's
signals: SIGUSR2 (the time limit is near, or preemption) is submitit's, which requeues the job and leaves by
SystemExit, or raises UncompletedJobError when it may not; SIGTERM (preempted or cancelled) ends the child, and no
record is written, as SLURM may start the job again.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from src.config.schema import RootConf
from src.context import Execute
from src.jobs.claims import (
    SIGNALLED,
    TERMINATED,
    Claim,
    ClaimLostError,
    check_claim,
    leave,
    recorded,
    take,
)
from src.jobs.snapshot import SOURCES
from src.launching.endings import kept, record_of
from src.launching.repetition import run_processes
from src.outcomes import RunEndedError, ended
from src.processes.isolated import EndedBy, Preloaded, share_caches
from src.records.environment import versions
from src.records.identity import Identity, read_identity
from src.records.record import Outcome, Record

_KILL_FOLLOWS_S = 600.0  # after SIGTERM; SLURM's KillWait and GraceTime are shorter
_SAME_SIGNAL_S = 2.0  # what killed the child may be about to kill this process
_AGAIN = "run the sweep's command again: what is recorded is skipped"


@dataclass(frozen=True)
class RunJob:
    """One run, by its folder with ``config.yaml`` and ``identity.json``; its record is there on return."""

    folder: Path
    execute: Execute  # what the run's process does: `src.run.execute`, pickled by its name

    def __call__(self) -> str:
        """Run it unless it is recorded; returns what became of it, in words."""
        if recorded(self.folder):
            return "recorded before"
        attempt = _Start(Path(self.folder), self.execute, read_identity(self.folder))
        try:
            with _heeding_sigterm():
                return attempt.run()
        except _TerminatedError:
            return attempt.end_with_slurm()

    def checkpoint(self) -> Any:
        """What submitit sends again after SIGUSR2: the same, measured afresh in the same folder."""
        from submitit.core.utils import DelayedSubmission

        leave(self.folder, SIGNALLED)
        return DelayedSubmission(RunJob(self.folder, self.execute))


class _TerminatedError(BaseException):
    """SIGTERM; no `except Exception` on the way may take it."""


@dataclass
class _Start:
    """One start of a run: it ends with a record, or leaves that to a later start or to who follows the sweep."""

    folder: Path
    execute: Execute
    identity: Identity
    record: Record = field(init=False)
    cfg: RootConf | None = None

    def __post_init__(self) -> None:
        self.record = self.identity.record()

    def run(self) -> str:
        """Claim, run, record, publish."""
        from submitit.core.utils import UncompletedJobError

        try:
            claim = take(self.folder, Claim.of_this_process())
            if claim is None:
                return "recorded by an earlier start"
            self._isolated(claim)
        except ClaimLostError as error:
            return f"given up: {error}"
        except UncompletedJobError as error:  # submitit may not requeue it
            self._end(_out_of_time(str(error)))
        except KeyboardInterrupt:
            self._end(RunEndedError(Outcome.KILLED, "stopped by SIGINT", _AGAIN))
        except Exception as error:
            self._end(ended(error))
        self._publish()
        return str(self.record.outcome)

    def end_with_slurm(self) -> str:
        """After SIGTERM: SLURM starts a preempted job again only when it ends it itself, so wait to be killed."""
        if recorded(self.folder):
            return "recorded"
        leave(self.folder, TERMINATED)
        if "SLURM_JOB_ID" in os.environ:
            time.sleep(_KILL_FOLLOWS_S)
        self._end(RunEndedError(Outcome.KILLED, "stopped by SIGTERM", _AGAIN))
        return str(self.record.outcome)

    def _isolated(self, claim: Claim) -> None:
        if claim.earlier:
            self.record.details["restarts"] = {"number": len(claim.earlier), "reasons": claim.reasons()}
        _check_restarts(self.identity, claim)
        _check_versions(self.identity)
        _check_code(self.identity)
        if self.identity.cwd:
            sys.path.append(self.identity.cwd)  # the user's own modules, which hide nothing
        self.cfg = load_config(self.folder)
        share_caches(Path(self.identity.outputs))
        server = Preloaded([])

        def process(cfg: RootConf, record: Record, folder: Path, called: str) -> Record:
            ending = server.run(
                self.execute,
                (cfg, record, folder),
                log=folder / "run.log",
                timeout_s=cfg.measure.timeout_s,
                hear=lambda phase: print(called + phase, flush=True),
                watch=lambda: check_claim(self.folder, claim),
            )
            if ending.by in (EndedBy.SIGNAL, EndedBy.MEMORY):
                time.sleep(_SAME_SIGNAL_S)
            return record_of(ending, record, folder, cfg.measure.timeout_s, "a larger gpu.slurm.mem_gib")

        self.record = run_processes(self.cfg, self.record, self.folder, process)

    def _end(self, end: RunEndedError) -> None:
        """A record of what happened, unless there is one."""
        self.record.outcome, self.record.reason, self.record.remedy = end.outcome, end.reason, end.remedy
        self.record = kept(self.record, self.folder)

    def _publish(self) -> None:
        if self.cfg is not None and self.cfg.tracking.publish == "worker":
            from src.launching.publication import publish_own
            from src.records.store import sweep_folder

            publish_own(self.cfg, self.folder, sweep_folder(Path(self.identity.outputs), self.identity.sweep))


def load_config(folder: Path) -> RootConf:
    """The configuration that a run was sent with.

    Raises:
        OSError: it cannot be read.
        ConfigError: this machine's code does not accept it.
    """
    from omegaconf import DictConfig, OmegaConf

    from src.checks.validation import validate

    loaded = OmegaConf.load(folder / "config.yaml")
    assert isinstance(loaded, DictConfig)
    return validate(loaded)


def _check_restarts(identity: Identity, claim: Claim) -> None:
    """A job that SLURM starts again and again is given up; requeues at the time limit are counted by submitit."""
    reasons = claim.reasons()
    own = min(reasons.count(SIGNALLED), identity.max_num_timeout)
    requeues = max(claim.restart, len(reasons)) - own
    if requeues > identity.max_requeues:
        last = reasons[-1] if reasons else "unknown"
        raise RunEndedError(
            Outcome.KILLED,
            f"SLURM has requeued job {claim.job} {requeues} times, and {identity.max_requeues} are allowed; "
            f"the last time: {last}",
            f"a larger hydra.launcher.max_requeues, or nodes that stay; {_AGAIN}",
        )


def _check_versions(identity: Identity) -> None:
    """The run key holds the versions of where the sweep was sent from; a run with others would be a lie."""
    here = versions()
    others = [
        f"{name} is {here.get(name, 'absent')} here and was {version} there"
        for name, version in identity.versions.items()
        if here.get(name) != version
    ]
    if others:
        raise RunEndedError(
            Outcome.FAILED,
            f"this node has other versions than where the sweep was sent from: {'; '.join(others)}",
            "the same environment for both: a shared one, a container, or gpu.slurm.setup that activates it",
        )


def _check_code(identity: Identity) -> None:
    """What was edited since the sweep was sent must not be what runs."""
    if identity.snapshot and not SOURCES.samefile(identity.snapshot):
        raise RunEndedError(
            Outcome.FAILED,
            f"this job has imported {SOURCES}, which is not the sweep's snapshot, {identity.snapshot}",
            "no `cd` in gpu.slurm.setup, and no PYTHONSAFEPATH: Python looks first where the job starts",
        )


def _out_of_time(said: str) -> RunEndedError:
    return RunEndedError(
        Outcome.TIMEOUT,
        f"not done at the job's time limit ({said.removeprefix('Job not requeued because: ').rstrip('.')})",
        "a larger gpu.slurm.time_min or hydra.launcher.time_min, or hydra.launcher.max_num_timeout",
    )


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    def told(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except _TerminatedError:
        raise  # the signal stays ignored: SLURM's SIGKILL is next
    else:
        signal.signal(signal.SIGTERM, before)
