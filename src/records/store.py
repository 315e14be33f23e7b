"""Where runs and sweeps lie on disk, and who drives a sweep.

``outputs/runs/<run_key>/<attempt>/`` holds one run, ``outputs/sweeps/<sweep>/sweep.json`` names a sweep's runs.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.records.record import RECORD_NAME, Record, RecordError, read_record, write_json

MANIFEST_NAME = "sweep.json"
MARKER_NAME = "published.json"  # in a run's folder once MLflow holds it complete
PARENT_NAME = "parent.json"  # in a sweep's folder: the run that its runs are published under
LEFT_NAME = "left.csv"  # in a sweep's folder: runs that it left to the forecast
MANIFEST_VERSION = 1


def run_folder(outputs: Path, run_key: str, attempt: int) -> Path:
    """The folder of one attempt at a run."""
    return outputs.joinpath("runs", run_key, f"{attempt:03d}")


def left_file(outputs: Path, run_key: str, attempt: int, name: str) -> bool:
    """Whether an attempt left such a file in its folder; a third of the time, where that is asked of very many."""
    return os.path.isfile(f"{outputs}{os.sep}runs{os.sep}{run_key}{os.sep}{attempt:03d}{os.sep}{name}")  # noqa: PTH113


def next_attempt(outputs: Path, run_key: str) -> int:
    """Create the folder of the next attempt and return its number; safe against other processes.

    Raises:
        OSError: the outputs folder cannot be written.
    """
    key_folder = outputs / "runs" / run_key
    key_folder.mkdir(parents=True, exist_ok=True)
    attempt = 1 + max((int(f.name) for f in key_folder.iterdir() if f.name.isdecimal()), default=0)
    while True:
        try:
            run_folder(outputs, run_key, attempt).mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return attempt


def latest_final(outputs: Path, run_key: str) -> Record | None:
    """The newest attempt that ended in a finding; nothing when there is none.

    Raises:
        RecordError: a newer attempt's record is corrupt or of a newer schema; the message names the file.
    """
    for folder in reversed(_attempts(outputs / "runs" / run_key)):
        if (folder / RECORD_NAME).exists():
            record = read_record(folder / RECORD_NAME)
            if record.outcome.is_finding:
                return record
    return None


def iter_records(outputs: Path) -> Iterator[tuple[Path, Record | RecordError]]:
    """Every run folder that holds a record, by key and attempt; an unreadable one comes as its error."""
    for key_folder in sorted(_folders(outputs / "runs")):
        for folder in _attempts(key_folder):
            if (folder / RECORD_NAME).exists():
                try:
                    yield folder, read_record(folder / RECORD_NAME)
                except RecordError as error:
                    yield folder, error


def mark_published(folder: Path, destination: dict[str, Any], run_id: str, version: str) -> None:
    """Note that MLflow holds this folder complete.

    Args:
        destination: where it went: the tracker's URI and experiment.
        version: which version of the record went there: its ``finished_at``.
    """
    write_json(folder / MARKER_NAME, destination | {"run_id": run_id, "version": version})


def published_run(folder: Path, destination: dict[str, Any]) -> tuple[str, str] | None:
    """MLflow's run id and the record's version that went to this destination; nothing when none did."""
    marker = _noted(folder / MARKER_NAME, destination)
    return (str(marker["run_id"]), str(marker["version"])) if {"run_id", "version"} <= marker.keys() else None


def note_parent(folder: Path, destination: dict[str, Any], run_id: str) -> None:
    """Note in a sweep's folder which run of this destination is its parent."""
    write_json(folder / PARENT_NAME, destination | {"run_id": run_id})


def noted_parent(folder: Path, destination: dict[str, Any]) -> str | None:
    """MLflow's id of a sweep's parent run at this destination; nothing when none is noted."""
    note = _noted(folder / PARENT_NAME, destination)
    return str(note["run_id"]) if "run_id" in note else None


def _noted(path: Path, destination: dict[str, Any]) -> dict[str, Any]:
    """What a note says; empty when there is none, or one of another destination."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and destination.items() <= note.items() else {}


@dataclass
class SweepManifest:
    """``sweep.json``: what a sweep was asked, by whom, and its runs in order.

    A run is ``{"run_key", "attempt", "folder" (relative to outputs), "skipped"}``; the driver is the process that
    sent the runs and may wait for them. On a cluster a run also has ``"array"``, the unique name that its array was
    sent by, ``"task"``, its job's number in there (None: the only one), ``"place"``, how many runs that job does
    first, ``"job"``, SLURM's id once it is known, and ``"adopted": true`` where an earlier sweep sent it and this one
    only waits for it.
    """

    sweep: str
    command: list[str] = field(default_factory=list)
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    runs: list[dict[str, Any]] = field(default_factory=list)
    driver: dict[str, Any] = field(default_factory=dict)
    backend: str = ""  # who runs the jobs: slurm; empty: the driver itself
    schema_version: int = MANIFEST_VERSION

    @classmethod
    def start(cls, sweep: str, command: Sequence[str]) -> "SweepManifest":
        """The manifest of a sweep that this process drives."""
        return cls(sweep, list(command), driver=this_process())

    def add(self, run_key: str, attempt: int, *, skipped: bool, job: str | None = None) -> dict[str, Any]:
        """Add a run; returns its entry.

        Args:
            attempt: of the run; of the earlier record when it was skipped.
            skipped: whether the run was measured before and is only listed.
        """
        folder = run_folder(Path(), run_key, attempt).as_posix()
        run: dict[str, Any] = {"run_key": run_key, "attempt": attempt, "folder": folder, "skipped": skipped}
        self.runs.append(run if job is None else run | {"job": job})
        return self.runs[-1]

    def folders(self, outputs: Path) -> list[Path]:
        """The folders of all its runs, the skipped ones among them."""
        return [run_folder(outputs, run["run_key"], run["attempt"]) for run in self.runs]

    def write(self, outputs: Path) -> Path:
        """Write ``sweep.json``, all at once."""
        path = sweep_folder(outputs, self.sweep) / MANIFEST_NAME
        write_json(path, asdict(self))
        return path


def sweep_folder(outputs: Path, sweep: str) -> Path:
    """The folder of a sweep."""
    return outputs / "sweeps" / sweep


def read_manifest(path: Path) -> SweepManifest:
    """Read a ``sweep.json``.

    Raises:
        RecordError: it is not a manifest of this schema; the message names the file and the remedy.
    """
    remedy = "move it away; its records are published all the same"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema_version", 1) > MANIFEST_VERSION:
            raise RecordError(f"{path}: sweep schema {content['schema_version']} is newer; update quantpay")
        known = {f.name for f in fields(SweepManifest)}
        manifest = SweepManifest(**{name: value for name, value in content.items() if name in known})
        manifest.folders(Path())
    except RecordError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: not a readable sweep ({error!r}); {remedy}") from error
    return manifest


def iter_manifests(outputs: Path) -> Iterator[tuple[Path, SweepManifest | RecordError]]:
    """Every sweep's manifest, oldest name first; an unreadable one comes as its error."""
    for folder in sorted(_folders(outputs / "sweeps")):
        path = folder / MANIFEST_NAME
        if path.exists():
            try:
                yield path, read_manifest(path)
            except RecordError as error:
                yield path, error


def this_process() -> dict[str, Any]:
    """Host, process id and start of this process: enough to tell later whether it still lives."""
    return process(os.getpid())


def process(pid: int) -> dict[str, Any]:
    """The same of another process of this machine."""
    return {"host": platform.node(), "pid": pid, "started": _process_start(pid)}


def is_alive(driver: dict[str, Any]) -> bool | None:
    """Whether the process described by `this_process` still lives; None: it ran on another host."""
    if driver.get("host") != platform.node():
        return None if driver else False
    start = _process_start(int(driver["pid"]))
    return start is not None and start == driver.get("started")


def _process_start(pid: int) -> str | None:
    """The kernel's boot and the process' start in it (a pid alone is used again); None: there is none."""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return None if state in "ZX" else f"{boot}:{rest[18]}"
    return None


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _attempts(key_folder: Path) -> list[Path]:
    return sorted((f for f in _folders(key_folder) if f.name.isdecimal()), key=lambda f: int(f.name))
