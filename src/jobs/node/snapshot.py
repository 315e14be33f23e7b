"""A sweep's copy of code and configuration: what is edited after the runs were sent changes none of them."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from src.records.environment import SNAPSHOT_NAME, commit
from src.records.record import write_json

SOURCES = Path(__file__).resolve().parents[3]  # a checkout, or the folder that the package is installed in
_PARTS = ("src", "hydra_plugins/quantpay", "conf", "sweeps")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "*.egg-info")


@dataclass(frozen=True)
class Snapshot:
    """A copy of the sources; a job that starts in its folder imports it."""

    folder: Path

    def keep(self, file: Path) -> Path:
        """Copy a file that a run reads (an autoquant plan) beside the sources, once per content; returns the copy."""
        content = file.read_bytes()
        kept = self.folder / "files" / f"{hashlib.sha256(content).hexdigest()[:16]}-{file.name}"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(content)
        return kept


def take(folder: Path, sources: Path = SOURCES) -> Snapshot:
    """Copy code and configuration into a new folder, and say in ``snapshot.json`` what they are.

    Args:
        folder: does not exist yet.
        sources: holds `src`, `hydra_plugins/quantpay`, and where it is a checkout also `conf` and `sweeps`.
    """
    for part in _PARTS:
        if (sources / part).is_dir():
            shutil.copytree(sources / part, folder / part, symlinks=True, ignore=_LEFT_OUT)
    files, digest = _contents(folder)
    write_json(folder / SNAPSHOT_NAME, commit() | {"files": files, "snapshot": digest})
    return Snapshot(folder)


def _contents(folder: Path) -> tuple[int, str]:
    """How many files there are, and a SHA-256 of their names and contents."""
    digest, files = hashlib.sha256(), sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return len(files), digest.hexdigest()
