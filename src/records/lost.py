"""Runs that never came home: their driver is dead and they left no record."""

import contextlib
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from src.records.record import RECORD_NAME, Outcome, Record, write_json
from src.records.store import SweepManifest, is_alive, run_folder

_GROUPS = ("model", "quant", "compile", "gpu", "task")
_VALUES = ("batch", "resolution", "target", "dtype")


def missing(outputs: Path, manifest: SweepManifest) -> list[Path]:
    """The folders of a sweep's own runs that hold no record."""
    own = (run for run in manifest.runs if not run["skipped"])
    folders = (run_folder(outputs, run["run_key"], run["attempt"]) for run in own)
    return [folder for folder in folders if folder.is_dir() and not (folder / RECORD_NAME).exists()]


def mark_lost(outputs: Path, manifest: SweepManifest) -> list[Path]:
    """Record as lost whatever a sweep whose driver is dead left without a record; returns those folders.

    A living driver's runs are left alone, and so are those of a driver on another host, which cannot be
    asked, and those of a cluster job that is queued, running or not known to have ended.
    """
    if is_alive(manifest.driver) is not False:
        return []
    jobs = {run_folder(outputs, run["run_key"], run["attempt"]): run.get("job") for run in manifest.runs}
    folders = [f for f in missing(outputs, manifest) if (job := jobs[f]) is None or _has_ended(job)]
    return [folder for folder in folders if _write_unless_there(_lost(folder, manifest), folder)]


def _lost(folder: Path, manifest: SweepManifest) -> Record:
    record = Record(folder.parent.name, int(folder.name), manifest.sweep, _axes(folder), Outcome.LOST)
    driver = f"process {manifest.driver.get('pid', '?')} on {manifest.driver.get('host', '?')}"
    record.reason = f"the sweep's driver ({driver}) is gone and the run left no record"
    record.remedy = "run the sweep's command again: what is recorded is skipped"
    record.started_at, record.finished_at = manifest.started_at, datetime.now(UTC).isoformat()
    return record


def _write_unless_there(record: Record, folder: Path) -> bool:
    """Write the record unless the run itself has written one in this very moment."""
    temporary = folder / f".lost.{os.getpid()}.json"
    write_json(temporary, asdict(record))
    try:
        os.link(temporary, folder / RECORD_NAME)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _axes(folder: Path) -> dict[str, Any]:
    """The axes out of the run's ``config.yaml``, as far as it was written."""
    config: Any = None
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        return {}
    named = {name: config[name]["name"] for name in _GROUPS if isinstance(config.get(name), dict)}
    return named | {name: config[name] for name in _VALUES if name in config}


def _has_ended(job: str) -> bool:
    """Whether SLURM knows that a job is over; no when it cannot be asked."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode != 0:
        return "invalid job id" in done.stderr.lower()
    return not done.stdout.strip()
