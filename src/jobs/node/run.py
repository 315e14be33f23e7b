"""A run on a node: what submitit pickles by reference and calls there. Imports here must be cheap: no torch.

The run itself is in a child process, so that a crash, a kill or a hang of it is recorded by this one. SLURM's
signals: SIGUSR2 (the time limit is near, or preemption) is submitit's, which requeues the job and leaves by
SystemExit, or raises UncompletedJobError when it may not. It raises in the middle of whatever is on, and where that
is an `except Exception`, as in logging, the error is gone: so the claim is looked at too. SIGTERM (preempted or
cancelled) ends the child, and no record is written, as SLURM may start the job again.
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

from src.config.schema.root import RootConf
from src.context import Execute
from src.jobs.node.admission import AGAIN, check_code, check_restarts, check_versions
from src.jobs.node.claims import (
    SIGNALLED,
    TERMINATED,
    Claim,
    ClaimLostError,
    check_claim,
    leave,
    recorded,
    signalled,
    take,
)
from src.launching.endings import kept, record_of
from src.launching.preparation import PRELOAD
from src.launching.repetition import run_processes
from src.outcomes import RunEndedError, ended
from src.processes.caches import share_caches
from src.processes.isolated import EndedBy, Preloaded
from src.records.identity import Identity, read_identity
from src.records.record import Outcome, Record

_KILL_FOLLOWS_S = 600.0  # after SIGTERM; SLURM's KillWait and GraceTime are shorter
_SERVER_GONE = 255  # a child's exit status where the fork server has died, which knew the real one
_SAME_SIGNAL_S = 2.0  # what killed the child may be about to kill this process


@dataclass(frozen=True)
class RunJob:
    """Runs in turn, by their folders with ``config.yaml`` and ``identity.json``; records are there on return."""

    folders: tuple[Path, ...]
    execute: Execute  # what a run's process does: `src.run.execute`, pickled by its name

    def __call__(self) -> str:
        """Run all that are not recorded; returns what became of each, in words.

        A signal that ends the job ends the run that is on; those behind it are left without a claim.
        """
        words = []
        for folder in self.folders:
            try:
                if recorded(folder):
                    words.append("recorded before")
                    continue
                identity = read_identity(folder)
            except (OSError, ValueError) as error:
                # This one is left without a record; those behind it go on.
                words.append(f"not run: {type(error).__name__}: {error}")
                print(words[-1], flush=True)
                continue
            start = _Start(Path(folder), self.execute, identity, shares=len(self.folders) > 1)
            try:
                with _heeding_sigterm():
                    words.append(start.run())
            except _TerminatedError:
                words.append(start.end_with_slurm())
                break
            if start.is_last:
                break
        return "; ".join(words)

    def checkpoint(self) -> Any:
        """What submitit sends again after SIGUSR2: the same; what was on is measured afresh in its folder."""
        from submitit.core.utils import DelayedSubmission

        for folder in self.folders:
            leave(folder, SIGNALLED)
        return DelayedSubmission(RunJob(self.folders, self.execute))


class _TerminatedError(BaseException):
    """SIGTERM; no `except Exception` on the way may take it."""


@dataclass
class _Start:
    """One start of a run: it ends with a record, or leaves that to a later start or to who follows the sweep."""

    folder: Path
    execute: Execute
    identity: Identity
    shares: bool = False  # its job with other runs
    record: Record = field(init=False)
    cfg: RootConf | None = None
    is_last: bool = False  # the job is at its end, whatever else it was to run

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
            self.is_last = True
            self._end(_out_of_time(str(error)))
        except KeyboardInterrupt:
            self.is_last = True
            self._end(RunEndedError(Outcome.KILLED, "stopped by SIGINT", AGAIN))
        except Exception as error:
            self.is_last = signalled(self.folder)  # submitit calls scontrol then, which may be missing here
            said = f"it could not be requeued: {type(error).__name__}: {error}"
            self._end(_out_of_time(said) if self.is_last else ended(error))
        self._publish()
        return str(self.record.outcome)

    def end_with_slurm(self) -> str:
        """After SIGTERM: SLURM starts a preempted job again only when it ends it itself, so wait to be killed."""
        if recorded(self.folder):
            return "recorded"
        leave(self.folder, TERMINATED)
        if "SLURM_JOB_ID" in os.environ:
            time.sleep(_KILL_FOLLOWS_S)
        self._end(RunEndedError(Outcome.KILLED, "stopped by SIGTERM", AGAIN))
        return str(self.record.outcome)

    def _isolated(self, claim: Claim) -> None:
        if claim.earlier:
            self.record.details["restarts"] = {"number": len(claim.earlier), "reasons": claim.reasons()}
        check_restarts(self.identity, claim, shares=self.shares)
        check_versions(self.identity)
        check_code(self.identity)
        if self.identity.cwd:
            sys.path.append(self.identity.cwd)  # the user's own modules, which hide nothing
        self.cfg = load_config(self.folder)
        share_caches(Path(self.identity.outputs))
        several = self.shares or self.cfg.measure.processes > 1
        server = Preloaded(PRELOAD if several else ())

        def process(cfg: RootConf, record: Record, folder: Path, called: str) -> Record:
            ending = server.run(
                self.execute,
                (cfg, record, folder),
                log=folder / "run.log",
                timeout_s=cfg.measure.timeout_s,
                hear=lambda phase: print(called + phase, flush=True),
                watch=lambda: self._check(claim),
            )
            if ending.by in (EndedBy.SIGNAL, EndedBy.MEMORY) or ending.code == _SERVER_GONE:
                time.sleep(_SAME_SIGNAL_S)
            return record_of(ending, record, folder, cfg.measure.timeout_s, "a larger gpu.slurm.mem_gib")

        self.record = run_processes(self.cfg, self.record, self.folder, process)

    def _check(self, claim: Claim) -> None:
        """Whether the run may go on here; raises what ends it otherwise."""
        from submitit.core.utils import UncompletedJobError

        check_claim(self.folder, claim)
        if signalled(self.folder):
            raise UncompletedJobError("it was signalled, and not sent again")

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
