"""What is done with one run of a sweep on this machine: whatever becomes of it, its record is kept and published."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.markup import escape

from src.config.schema.root import RootConf
from src.context import Execute
from src.launching.endings import kept, record_of
from src.launching.preparation import write_config
from src.launching.progress import SweepProgress, label, result
from src.launching.publication import SweepPublisher
from src.launching.repetition import run_processes
from src.launching.standing import is_settled, standing
from src.local.compilers import Compilers
from src.local.devices import Devices
from src.local.sharing.group import Group
from src.processes.isolated import Preloaded
from src.records.key import axes_of, run_key
from src.records.record import RECORD_NAME, Outcome, Record, read_record
from src.records.store import SweepManifest, next_attempt, run_folder


@dataclass
class Runs:
    """The runs of a sweep, each by the index of its configuration."""

    configs: Sequence[RootConf]
    execute: Execute
    outputs: Path
    manifest: SweepManifest
    publisher: SweepPublisher
    devices: Devices
    compilers: Compilers
    records: dict[int, Record] = field(default_factory=dict)  # of those that were begun or skipped

    def key(self, index: int) -> tuple[str, RootConf]:
        """A run's key, and its configuration with the dtype settled."""
        cfg, device = self.devices.settled(self.configs[index])
        return run_key(cfg, device), cfg

    def folder(self, index: int) -> Path:
        """Of a run that was begun or skipped."""
        return run_folder(self.outputs, self.records[index].run_key, self.records[index].attempt)

    def run_or_skip(self, index: int, progress: SweepProgress, server: Preloaded | Group) -> None:
        """Run one configuration, unless it was measured before."""
        cfg = self.begun(index, progress)
        if cfg is not None:
            self.run(index, cfg, progress, server)

    def begun(self, index: int, progress: SweepProgress) -> RootConf | None:
        """The run's settled configuration, which is in its new folder; None where it was measured before."""
        key, cfg = self.key(index)
        done = standing(self.outputs, key, cfg, progress.say)
        if done is not None and is_settled(done):
            progress.start_run(label(cfg))
            self.records[index] = done
            self.manifest.add(key, done.attempt, skipped=True)
            self.manifest.write(self.outputs)
            progress.end_run(f"{result(done)} (measured before; rerun=true measures again)", measured=False)
            return None
        self.compilers.begun(key)
        attempt = next_attempt(self.outputs, key)
        self.manifest.add(key, attempt, skipped=False)
        self.manifest.write(self.outputs)
        self.records[index] = Record(key, attempt, self.manifest.sweep, axes_of(cfg))
        write_config(cfg, self.folder(index))
        return cfg

    def run(self, index: int, cfg: RootConf, progress: SweepProgress, server: Preloaded | Group) -> None:
        """Run one configuration in its processes; whatever becomes of them, there is a record."""
        record, folder = self.records[index], self.folder(index)
        record.started_at = datetime.now(UTC).isoformat()  # others may have been tried with it before
        progress.start_run(label(cfg))
        try:
            record = run_processes(cfg, record, folder, partial(self._process, progress, server))
        except KeyboardInterrupt:
            record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
            raise
        finally:
            self.records[index] = record = kept(record, folder)
            self.publisher.publish(folder)
        more = f"; {escape(str(folder / 'run.log'))} says more" if record.outcome is Outcome.FAILED else ""
        progress.end_run(result(record) + more, measured=record.outcome is Outcome.OK)

    def ended_together(self, index: int, cfg: RootConf, share: int, progress: SweepProgress) -> None:
        """Take the record that a run left which had others in its rounds, `share` in all."""
        folder = self.folder(index)
        self.records[index] = record = read_record(folder / RECORD_NAME)
        self.publisher.publish(folder)
        measured = record.outcome is Outcome.OK
        progress.end_run(result(record), measured=measured, label=label(cfg), share=share)

    def stopped(self, index: int) -> None:
        """Record that the user stopped it, unless it has a record."""
        record, folder = self.records[index], self.folder(index)
        record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
        kept(record, folder)
        self.records[index] = read_record(folder / RECORD_NAME)
        self.publisher.publish(folder)

    def withheld(self, index: int, why: str, remedy: str) -> bool:
        """Withhold the verdict of a run that is over; whether it had one."""
        record, folder = self.records[index], self.folder(index)
        if not record.withhold(why, remedy):
            return False
        record.write(folder)
        self.publisher.publish(folder)
        return True

    def _process(
        self,
        progress: SweepProgress,
        server: Preloaded | Group,
        cfg: RootConf,
        record: Record,
        folder: Path,
        called: str,
    ) -> Record:
        """One process of a run; when it leaves no record, what is known is written."""
        ending = server.run(
            self.execute,
            (cfg, record, folder),
            log=folder / "run.log",
            timeout_s=cfg.measure.timeout_s,
            hear=lambda phase: progress.phase(called + phase),
        )
        return record_of(ending, record, folder, cfg.measure.timeout_s)
