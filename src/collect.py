"""The command line of bookkeeping, safe to repeat at any time: `python -m src.collect --help`.

Publishes what is recorded and not yet published, marks runs whose driver died as lost, finishes sweeps.
Exit status: 0 all is well; 1 a file is unreadable or a record is still unpublished; 2 a wrong command line.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from src.config.errors import ConfigError
from src.config.schema import CollectConf
from src.records.lost import mark_lost, missing
from src.records.record import Record, RecordError
from src.records.store import SweepManifest, is_alive, iter_manifests, iter_records, sweep_folder
from src.records.tracking import Tracker, TrackingError, UnpublishableError, open_tracker

_GIVE_UP_AFTER = 2  # failures in a row: the tracker is down, not one run odd


def main() -> int:
    """Compose, validate, collect."""
    from src.config.app import main as hydra_main

    return hydra_main("collect", collect_single, prog="python -m src.collect")


def collect_single(config: DictConfig) -> int:
    """The task that Hydra calls."""
    from src.config.validate import validated

    return collect(validated(config, CollectConf))


@dataclass
class Findings:
    """What lies on disk, and what became of it."""

    manifests: dict[str, SweepManifest] = field(default_factory=dict)
    records: dict[Path, Record] = field(default_factory=dict)
    lost: list[Path] = field(default_factory=list)
    calibrations: bool = False  # whether there are any
    calibrations_published: int = 0
    unreadable: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    published: int = 0
    there_already: int = 0

    @property
    def left(self) -> int:
        """Records that are still unpublished."""
        return len(self.records) - self.published - self.there_already


def collect(conf: CollectConf, console: Console | None = None) -> int:
    """Do all the bookkeeping; returns the exit status.

    Raises:
        ConfigError: `sweep` names none that is recorded.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    outputs = Path(conf.outputs).resolve()
    found = look(outputs, conf.sweep)
    if found.lost:
        console.print(f"{len(found.lost)} runs are lost: their driver died and left no record", markup=False)
    try:
        if found.records or found.calibrations:
            tracker = open_tracker(conf.tracking)
            publish(found, outputs, tracker, console)
            _publish_calibrations(found, outputs, tracker)
    except TrackingError as error:
        found.trouble.append(str(error))
    for line in found.unreadable:
        console.print(f"unreadable: {line}", markup=False)
    for line in dict.fromkeys(found.trouble):
        console.print(f"warning: {line}", markup=False)
    if found.calibrations_published:
        console.print(f"calibrations published: {found.calibrations_published}", markup=False)
    tail = f", {found.left} still to publish" if found.left else ""
    console.print(
        f"{found.published} published, {found.there_already} already there, "
        f"{len(found.unreadable)} unreadable{tail}",
        markup=False,
    )
    return 1 if found.unreadable or found.trouble or found.left else 0


def look(outputs: Path, sweep: str | None) -> Findings:
    """Everything recorded, of one sweep or of all; runs without a living driver are marked as lost.

    Raises:
        ConfigError: nothing is recorded of this sweep.
    """
    found = Findings()
    for path, manifest in iter_manifests(outputs):
        if sweep not in (None, path.parent.name):
            continue
        if isinstance(manifest, RecordError):
            found.unreadable.append(str(manifest))
        else:
            found.manifests[manifest.sweep] = manifest
            found.lost += mark_lost(outputs, manifest)
    wanted = {folder for manifest in found.manifests.values() for folder in manifest.folders(outputs)}
    for folder, record in iter_records(outputs):
        if isinstance(record, RecordError):
            if sweep is None or folder in wanted:
                found.unreadable.append(str(record))
        elif sweep in (None, record.sweep) or folder in wanted:
            found.records[folder] = record
    found.calibrations = sweep is None and (outputs / "calibration").is_dir()
    if sweep is not None and not (found.manifests or found.records or found.unreadable):
        raise ConfigError(
            f"sweep={sweep}: nothing of it under {outputs}; see {outputs / 'sweeps'} for those there"
        )
    return found


def publish(found: Findings, outputs: Path, tracker: Tracker, console: Console) -> None:
    """Publish what is not there yet, sweep by sweep, and finish the sweeps that are over."""
    waiting: dict[str, list[Path]] = {}
    for folder, record in found.records.items():
        if tracker.is_published(folder, record):
            found.there_already += 1
        else:
            waiting.setdefault(record.sweep, []).append(folder)
    done = {sweep for sweep in found.manifests if tracker.is_closed(sweep_folder(outputs, sweep))}
    sweeps = sorted(waiting.keys() | (found.manifests.keys() - done))
    for sweep in track(
        sweeps, "publishing", console=console, disable=not console.is_terminal, transient=True
    ):
        manifest = found.manifests.get(sweep) or SweepManifest(sweep)
        parent = tracker.open_sweep(manifest, sweep_folder(outputs, sweep))
        _publish_runs(found, tracker, parent, waiting.get(sweep, []))
        if sweep in found.manifests and _is_over(outputs, manifest):
            try:
                tracker.close_sweep(parent, sweep_folder(outputs, sweep))
            except UnpublishableError as error:
                if str(error) not in found.unreadable:
                    found.unreadable.append(str(error))


def _publish_calibrations(found: Findings, outputs: Path, tracker: Tracker) -> None:
    if not found.calibrations:
        return
    from src.calibration import tracking as calibrations

    try:
        for folder in calibrations.waiting(outputs, tracker.connection.destination):
            calibrations.publish(folder, tracker.connection)
            found.calibrations_published += 1
    except UnpublishableError as error:
        found.unreadable.append(str(error))


def _publish_runs(found: Findings, tracker: Tracker, parent: str, folders: list[Path]) -> None:
    failed = 0
    for folder in folders:
        try:
            tracker.publish(folder, parent)
        except UnpublishableError as error:
            found.unreadable.append(str(error))
        except TrackingError as error:
            failed += 1
            if failed == _GIVE_UP_AFTER:
                raise
            found.trouble.append(str(error))
        else:
            failed = 0
            found.published += 1


def _is_over(outputs: Path, manifest: SweepManifest) -> bool:
    """A sweep is over when its driver is dead, or cannot be asked and no run is missing."""
    alive = is_alive(manifest.driver)
    return alive is False or (alive is None and not missing(outputs, manifest))


if __name__ == "__main__":
    sys.exit(main())
