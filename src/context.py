"""What a task is handed: the configuration, the record it fills, the run's folder, and phases."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from src.config.schema.root import RootConf
from src.records.beside import compilers_of
from src.records.record import Record
from src.records.store import sweep_folder

if TYPE_CHECKING:  # imports torch, which a run that ends before its task may not need
    from src.devices.device import Device


@dataclass
class Kept:
    """What a process that takes several runs keeps from one to the next; a run of another workload replaces it."""

    workload: str = ""  # the key of the workload that the content is of
    content: Any = None  # the task's: src.tasks.arms.untreated.Untreated


class Execute(Protocol):
    """What a run's process does: configuration, identity, folder, who hears of phases, what is kept between runs."""

    def __call__(
        self,
        cfg: RootConf,
        record: Record,
        folder: Path,
        tell: Callable[[str], None],
        kept: Kept | None = None,
        /,
    ) -> Record:
        """Run it; the record is on disk on return."""
        ...


@dataclass
class RunContext:
    """One run as its task sees it."""

    cfg: RootConf
    record: Record
    folder: Path
    device: "Device"
    report: Callable[[str], None]  # tells the driver which phase is on
    kept: Kept | None = None  # where other runs are in this process too

    def compilers(self) -> list[int]:
        """Processes of its sweep that compile the next runs now: they hold the device, and have no work for it."""
        return compilers_of(sweep_folder(Path(self.cfg.outputs), self.record.sweep))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name what is going on; its wall seconds go into the record (added up when entered again)."""
        self.report(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.record.phases_s[name] = round(self.record.phases_s.get(name, 0.0) + seconds, 4)
