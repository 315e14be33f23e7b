"""The layer tables of measured models: which Linear layers a run had, and what each was given."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.tracker import Tracker
from src.records.store import run_folder

NAME = "layers.json"
_DOWNLOADS = 25  # of runs whose records are not on this disk

Table = list[dict[str, Any]]  # the fields of src.treatments.layers.LayerRow


def layer_tables(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None = None) -> dict[str, Table]:
    """Run key -> its table, of the runs that have one here; of the newest others it is fetched."""
    return dict(_found(runs.sort_values("started_at", ascending=False), outputs, tracker))


def _found(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None) -> Iterator[tuple[str, Table]]:
    downloads = _DOWNLOADS if tracker else 0
    with tempfile.TemporaryDirectory() as folder:
        for row in runs.to_dict("records"):
            path: Path | None = run_folder(outputs, str(row["run_key"]), int(row["attempt"])) / NAME
            if path is not None and not path.is_file() and tracker and downloads:
                downloads -= 1
                target = Path(folder) / str(downloads)
                target.mkdir()
                path = tracker.artifact(str(row["run_id"]), NAME, target)
            if rows := read_layers(path):
                yield str(row["run_key"]), rows


def read_layers(path: Path | None) -> Table:
    """The rows of a layers.json; empty where it cannot be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path else []
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) else []
