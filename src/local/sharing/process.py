"""What a process does that takes several runs: each as `execute` does it, and what it left behind is looked at.

What imports torch is imported where it is used: the sweep's own process sends this to another one.
"""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from src.config.schema.root import RootConf
from src.context import Execute, Kept, RunContext
from src.processes.answering import log_to
from src.records.record import RECORD_NAME, Record

Run = tuple[RootConf, Record, Path]  # its configuration, identity and folder

LEFT = "left_behind"  # in a record's details: what its run left in the process
_GIB = 2**30
_MOST_BYTES = {"cuda": _GIB // 4, "cpu": _GIB}  # by device: more than compiled code and the allocators keep


@dataclass(frozen=True)
class Look:
    """A process between two runs."""

    settings: dict[str, Any]
    held_bytes: int  # without the arms that are kept
    copies: int  # of this process, that it forked and that still run
    workload: str  # whose arms are kept
    weights: tuple[int, ...]  # how often each of their tensors was written to

    def left_since(self, start: "Look", most_bytes: int) -> list[str]:
        """What is not as it was at the start, in words."""
        from src.compilation.settings import changed

        left = changed(start.settings, self.settings)
        if (more := self.held_bytes - start.held_bytes) > most_bytes:
            left.append(f"{more / _GIB:.1f} GiB of memory more than after the first place")
        if self.copies > start.copies:
            left.append(f"{self.copies - start.copies} forked processes that still run")
        if self.workload == start.workload and self.weights != start.weights:
            left.append("weights of the baseline that were written to")
        return left


@dataclass
class Sharing:
    """The job of such a process: called with one run after another, or several at once; its state stays there.

    The first run of all is an equal pair, with which the others' looks are compared.
    """

    execute: Execute
    kept: Kept = field(default_factory=Kept)
    start: Look | None = None

    def __call__(self, runs: Sequence[Run], tell: Callable[[str], None]) -> list[Record]:
        """Measure the runs, several in the same rounds; their records say what was left behind, if anything."""
        if self.start is None:
            gc.freeze()  # what was imported stays: no collection need look at it
        together = len(runs) > 1
        records = _together(runs, tell, self.kept) if together else [self.execute(*runs[0], tell, self.kept)]
        kind = records[0].device.get("kind", "cpu")
        look = _look(self.kept, kind)
        if self.start is None:
            self.start = look
        elif left := look.left_since(self.start, _MOST_BYTES[kind]):
            for (_, _, folder), record in zip(runs, records, strict=True):
                record.details[LEFT] = left
                if (folder / RECORD_NAME).exists():  # else it is to be run by itself
                    record.write(folder)
        self.start = replace(self.start, workload=look.workload, weights=look.weights)
        return records


def _together(runs: Sequence[Run], tell: Callable[[str], None], kept: Kept) -> list[Record]:
    """Runs in the same rounds, each recorded as `execute` does it, its output in its own log."""
    from hydra.utils import get_method

    from src.devices.crowded import withhold_if_crowded
    from src.outcomes import ending_in
    from src.records.environment import environment
    from src.tasks.execution import opened, written

    contexts = []
    for cfg, record, folder in runs:
        record.environment = environment()
        with ending_in(record):
            heard = partial(_tell_of, tell, cfg.quant.name)
            contexts.append(opened(cfg, record, folder, heard, kept))
        if not contexts or contexts[-1].record is not record:
            written(record, folder)

    @contextmanager
    def turn(run: RunContext) -> Iterator[None]:
        log_to(run.folder / "run.log")
        with ending_in(run.record):
            yield
        withhold_if_crowded(run.record, run.device)

    measure = get_method(runs[0][0].task.together)
    for run in measure(contexts, turn) if contexts else ():
        seconds = round(sum(run.record.phases_s.values()), 3)  # its own; the others' lie between them
        run.record.details["shared"] = run.record.details.get("shared", {}) | {"seconds": seconds}
        written(run.record, run.folder)
    return [record for _, record, _ in runs]


def _tell_of(tell: Callable[[str], None], name: str, phase: str) -> None:
    tell(f"{name}: {phase}")


def _look(kept: Kept, kind: str) -> Look:
    """Let go of all that the run compiled and held, then look."""
    import torch

    from src.compilation.scopes import forget_all_compiled
    from src.compilation.settings import process_settings
    from src.measurement.memory import held_bytes

    forget_all_compiled()
    gc.collect()
    if kind == "cuda":
        torch.cuda.empty_cache()
    arms = kept.content.side_by_side if kept.content else None
    own_bytes, weights = (arms.held_bytes, arms.writes()) if arms else (0, ())
    return Look(process_settings(), held_bytes(kind) - own_bytes, _copies(), kept.workload, weights)


def _copies() -> int:
    """Children of this process with its own command line: forks of it, not what it started otherwise."""
    own = (str(os.getpid()), Path("/proc/self/cmdline").read_bytes())
    return sum(_parent_and_command(process) == own for process in Path("/proc").glob("[0-9]*"))


def _parent_and_command(process: Path) -> tuple[str, bytes]:
    try:
        parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        return parent, (process / "cmdline").read_bytes()
    except OSError:
        return "", b""
