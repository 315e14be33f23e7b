"""What lies in runs' folders, above all layer tables: which Linear layers a run had, and what each was given."""

import json
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from src.analysis.runs.tracked.tracker import Tracker
from src.records.store import run_folder

NAME = "layers.json"
_DOWNLOADS = 25  # of runs whose records are not on this disk
_LOOKED_AT = 2000  # runs, the newest
MOST_TABLES = 48  # that are read, the newest runs'

T = TypeVar("T")
Table = list[dict[str, Any]]  # the fields of src.treatments.layers.LayerRow


def layer_tables(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None = None) -> dict[str, Table]:
    """Run key -> its table, of the newest runs that have one here; of some others it is fetched."""
    newest = runs.sort_values("started_at", ascending=False).head(_LOOKED_AT)
    return dict(islice(from_folders(newest, NAME, read_layers, outputs, tracker), MOST_TABLES))


def from_folders(
    runs: pd.DataFrame,
    name: str,
    read: Callable[[Path | None], T | None],
    outputs: Path,
    tracker: Tracker | None,
    key: str = "run_key",
) -> Iterator[tuple[str, T]]:
    """Run key (or ID) -> what is read of a file in its folder, where it holds something; some others' are fetched."""
    downloads = _DOWNLOADS if tracker else 0
    columns = (runs[each].tolist() for each in ("run_key", "attempt", "run_id", key))
    with tempfile.TemporaryDirectory() as folder:
        for run_key, attempt, run_id, told_by in zip(*columns, strict=True):
            path: Path | None = run_folder(outputs, run_key, attempt) / name
            if path is not None and not path.is_file() and tracker and downloads:
                downloads -= 1
                target = Path(folder) / str(downloads)
                target.mkdir()
                path = tracker.artifact(run_id, name, target)
            if content := read(path):
                yield told_by, content


def read_layers(path: Path | None) -> Table:
    """The rows of a layers.json; empty where it cannot be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path else []
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) else []
