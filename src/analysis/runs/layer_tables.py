"""The layer tables of measured models: which Linear layers a run had, and what each was given."""

import json
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.runs.tracker import Tracker
from src.records.store import run_folder

NAME = "layers.json"
_DOWNLOADS = 25  # of runs whose records are not on this disk
_LOOKED_AT = 2000  # runs, the newest
MOST_TABLES = 48  # that are read, the newest runs'

Table = list[dict[str, Any]]  # the fields of src.treatments.layers.LayerRow


def layer_tables(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None = None) -> dict[str, Table]:
    """Run key -> its table, of the newest runs that have one here; of some others it is fetched."""
    newest = runs.sort_values("started_at", ascending=False).head(_LOOKED_AT)
    return dict(islice(_found(newest, outputs, tracker), MOST_TABLES))


def _found(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None) -> Iterator[tuple[str, Table]]:
    downloads = _DOWNLOADS if tracker else 0
    with tempfile.TemporaryDirectory() as folder:
        for run_key, attempt, run_id in zip(runs["run_key"], runs["attempt"], runs["run_id"], strict=True):
            path: Path | None = run_folder(outputs, run_key, attempt) / NAME
            if path is not None and not path.is_file() and tracker and downloads:
                downloads -= 1
                target = Path(folder) / str(downloads)
                target.mkdir()
                path = tracker.artifact(run_id, NAME, target)
            if rows := read_layers(path):
                yield run_key, rows


def read_layers(path: Path | None) -> Table:
    """The rows of a layers.json; empty where it cannot be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path else []
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) else []
