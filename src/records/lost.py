"""Records for runs that left none."""

import contextlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from src.records.identity import read_identity
from src.records.pooled import pooled_record
from src.records.record import RECORD_NAME, Outcome, Record, write_new_json
from src.records.store import SweepManifest, is_alive, run_folder

_GROUPS = ("model", "quant", "compile", "gpu", "task")
_VALUES = ("batch", "resolution", "frames", "target", "dtype")


def missing(outputs: Path, manifest: SweepManifest) -> list[Path]:
    """The folders of a sweep's own runs that hold no record."""
    return [folder for folder, _ in _missing(outputs, manifest)]


def mark_lost(outputs: Path, manifest: SweepManifest) -> list[Path]:
    """Record as lost whatever a sweep whose driver is dead left without a record; returns those folders.

    A living driver's runs are left alone, and so are those of a driver on another host, which cannot be asked. What a
    cluster was given is not the driver's any more: `src.jobs.follower` asks the cluster.
    """
    if is_alive(manifest.driver) is not False:
        return []
    folders = [
        folder for folder, run in _missing(outputs, manifest) if not (run.get("job") or run.get("array"))
    ]
    return _lost(folders, manifest, "")


def give_up(outputs: Path, manifest: SweepManifest) -> list[Path]:
    """Record as lost what a sweep left without a record, as somebody says that its driver's machine is gone.

    Returns:
        Those folders; what an earlier sweep had sent is not among them.
    """
    folders = [folder for folder, run in _missing(outputs, manifest) if not run.get("adopted")]
    return _lost(folders, manifest, ", as src.collect was told,")


def driver_of(manifest: SweepManifest) -> str:
    """A sweep's driver in words."""
    return f"process {manifest.driver.get('pid', '?')} on {manifest.driver.get('host', '?')}"


def _lost(folders: list[Path], manifest: SweepManifest, how: str) -> list[Path]:
    reason = f"the sweep's driver ({driver_of(manifest)}) is gone{how} and the run left no record"
    remedy = "run the sweep's command again: what is recorded is skipped"
    return [f for f in folders if record_end(f, manifest, Outcome.LOST, reason, remedy)]


def record_end(
    folder: Path,
    manifest: SweepManifest,
    outcome: Outcome,
    reason: str,
    remedy: str,
    **details: Any,
) -> bool:
    """Record how a run ended that left no record; whether that was needed: a run's own record is never replaced.

    Of a run in several processes what those have measured is its record, and that this one ended so stands in there.

    Args:
        reason: why, one line.
    """
    record = _identified(folder, manifest)
    record.outcome, record.reason, record.remedy = outcome, reason, remedy
    record.details |= details
    record.started_at, record.finished_at = manifest.started_at, datetime.now(UTC).isoformat()
    return _write_unless_there(pooled_record(folder, record), folder)


def _missing(outputs: Path, manifest: SweepManifest) -> list[tuple[Path, dict[str, Any]]]:
    own = [run for run in manifest.runs if not run["skipped"]]
    folders = [(run_folder(outputs, run["run_key"], run["attempt"]), run) for run in own]
    return [(f, run) for f, run in folders if f.is_dir() and not (f / RECORD_NAME).exists()]


def _identified(folder: Path, manifest: SweepManifest) -> Record:
    try:
        return read_identity(folder).record()
    except (OSError, ValueError):
        return Record(folder.parent.name, int(folder.name), manifest.sweep, _axes(folder))


def _write_unless_there(record: Record, folder: Path) -> bool:
    """Write the record unless the run itself has written one in this very moment."""
    return write_new_json(folder / RECORD_NAME, asdict(record))


def _axes(folder: Path) -> dict[str, Any]:
    """The axes out of the run's ``config.yaml``, as far as it was written."""
    config: Any = None
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        return {}
    named = {name: config[name]["name"] for name in _GROUPS if isinstance(config.get(name), dict)}
    return named | {name: config[name] for name in _VALUES if name in config}
