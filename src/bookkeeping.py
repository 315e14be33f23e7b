"""The bookkeeping itself: what lies on disk, what became of it, and its publication."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from src.config.errors import ConfigError
from src.config.lines import runs_in_words
from src.config.paths import command, outputs_argument
from src.jobs.backend import Backend
from src.jobs.display import in_words
from src.jobs.followed import Patience, settle
from src.jobs.follower import hints
from src.records.lost import driver_of, give_up, mark_lost, missing
from src.records.mlflow.tracking import Tracker, TrackingError, UnpublishableError
from src.records.record import Record, RecordError
from src.records.store import (
    MANIFEST_NAME,
    SweepManifest,
    is_alive,
    iter_manifests,
    iter_records,
    read_manifest,
    sweep_folder,
)

_GIVE_UP_AFTER = 2  # failures in a row: the tracker is down, not one run odd


def _slurm(outputs: Path) -> Backend:
    from src.slurm.backend import SlurmBackend

    return SlurmBackend()


def _pool(outputs: Path) -> Backend:
    from src.workstation.pool import DevicePool

    return DevicePool(outputs)


_BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "slurm": _slurm,
    "submitit_local": _pool,
}  # by the name that a manifest says


@dataclass
class Findings:
    """What lies on disk, and what became of it."""

    manifests: dict[str, SweepManifest] = field(default_factory=dict)
    records: dict[Path, Record] = field(default_factory=dict)
    ended: list[Path] = field(default_factory=list)  # without a record of their own
    going_on: list[str] = field(default_factory=list)  # a line per sweep with runs elsewhere
    silent: set[str] = field(default_factory=set)  # backends that cannot be asked from here
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


def backend_of(manifest: SweepManifest, outputs: Path) -> Backend | None:
    """Where a sweep's jobs are; None: its own process ran them, or this program does not know the backend."""
    make = _BACKENDS.get(manifest.backend)
    return make(outputs) if make else None


def look(outputs: Path, sweep: str | None, patience: Patience | None = None) -> Findings:
    """Everything recorded, of one sweep or of all; runs that ended without a record get one.

    Args:
        sweep: only this one; None: all.
        patience: with jobs that are just over.

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
            _finish(found, outputs, manifest, patience)
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


def _finish(found: Findings, outputs: Path, manifest: SweepManifest, patience: Patience | None) -> None:
    """Record what is over of a sweep and left no record; a living driver does so itself."""
    found.ended += mark_lost(outputs, manifest)
    backend = backend_of(manifest, outputs)
    left = missing(outputs, manifest)
    alive = is_alive(manifest.driver)
    if alive is None and left and manifest.backend != "slurm":
        found.going_on.append(_elsewhere(manifest, outputs, len(left)))
        return
    if backend is None or alive or not left:
        return
    where = f"{runs_in_words(len(left))}, and nobody here can be asked about them"
    if manifest.backend not in found.silent:  # asking in vain may take a minute
        known = settle(manifest, outputs, backend, patience)
        found.ended += [run.folder for run in known.runs if run.recorded_here]
        if not known.open:
            return
        if any(run.told_at > known.began for run in known.open):
            where = in_words(known.open)
        else:
            found.silent.add(manifest.backend)
    found.going_on.append(f"sweep {manifest.sweep} goes on: {where}\n{hints(manifest.sweep, outputs)}")


def _elsewhere(manifest: SweepManifest, outputs: Path, left: int) -> str:
    """Of a sweep that another machine runs: what can be done."""
    which = [f"sweep={manifest.sweep}", *outputs_argument(outputs)]
    return (
        f"sweep {manifest.sweep}: {runs_in_words(left)} without a record; its {driver_of(manifest)} cannot be asked "
        f"from here: give this command there, or, if that machine is gone, {command('collect', *which, 'lost=true')}"
    )


def lose(manifest: SweepManifest, outputs: Path) -> list[Path]:
    """Record as lost what a sweep left without a record whose machine is gone; returns those folders.

    Raises:
        ConfigError: somebody can be asked about it: its process lives, or SLURM has its jobs.
    """
    if manifest.backend == "slurm":
        raise ConfigError(
            f"sweep={manifest.sweep}: SLURM has its jobs and is asked about them; cancel=true gives them up"
        )
    if is_alive(manifest.driver):
        raise ConfigError(
            f"sweep={manifest.sweep}: its {driver_of(manifest)} lives and runs it; end that first (Ctrl-C)"
        )
    return give_up(outputs, manifest)


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
        manifest = found.manifests.get(sweep) or _manifest(outputs, sweep)
        parent = tracker.open_sweep(manifest, sweep_folder(outputs, sweep))
        _publish_runs(found, tracker, parent, waiting.get(sweep, []))
        if sweep in found.manifests and _is_over(outputs, manifest):
            try:
                tracker.close_sweep(parent, sweep_folder(outputs, sweep))
            except UnpublishableError as error:
                if str(error) not in found.unreadable:
                    found.unreadable.append(str(error))


def _manifest(outputs: Path, sweep: str) -> SweepManifest:
    """Of a sweep that was not asked for, some of whose runs another one lists; only its name where it left none."""
    try:
        return read_manifest(sweep_folder(outputs, sweep) / MANIFEST_NAME)
    except RecordError:
        return SweepManifest(sweep)


def publish_calibrations(found: Findings, outputs: Path, tracker: Tracker) -> None:
    """Publish the calibrations that are not there yet."""
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
    """A sweep is over when no run is missing, and its driver adds no more."""
    return not is_alive(manifest.driver) and not missing(outputs, manifest)
