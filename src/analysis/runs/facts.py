"""What records say of how their runs were measured, which MLflow's metrics do not: read once, and kept."""

from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.runs.layer_tables import from_folders
from src.analysis.runs.tracked.kept import Kept, kept_folder
from src.analysis.runs.tracked.tracker import Tracker
from src.records.mlflow.content import identity_text
from src.records.record import RECORD_NAME, Record, RecordError, read_record

VERSIONS = (
    "protocol",
    "torch",
    "torchao",
    "diffusers",
    "triton",
    "cuda",
    "driver",
    "container",
    "python",
    "commit",
    "dirty",
    "host",
)
DETAILS = ("pairing", "stop_reason", "fell_back")
_COLUMNS = ["run_id", "quant", "verdict", "device_name", "device_identity", *DETAILS, *VERSIONS]


def facts(runs: pd.DataFrame, outputs: Path, tracker: Tracker) -> tuple[pd.DataFrame, bool]:
    """A row per run whose record can be read: it is on this disk, or was; of some others it comes from the tracker.

    Texts, empty where a record says nothing. A record that changes is another run in MLflow, so a row stays true.

    Returns:
        The rows; whether a next call may read more: this one did, and some runs are without yet.
    """
    kept = Kept(kept_folder(outputs), {"what": "records"})
    before = kept.read()
    known = pd.DataFrame(columns=_COLUMNS, dtype="str") if before is None else before
    ids = known["run_id"].astype(object)  # whose `isin` takes a tenth of the time
    known = known[ids.isin(runs["run_id"])]
    missing = runs[~runs["run_id"].isin(ids)].sort_values("started_at", ascending=False)
    read = from_folders(missing, RECORD_NAME, _readable, outputs, tracker, "run_id")
    new = pd.DataFrame([fact(*each) for each in read], columns=_COLUMNS, dtype="str")
    if new.empty:
        return known, False
    found = pd.concat([known, new], ignore_index=True)
    kept.write(found, new, anew=before is None)
    return found, len(found) < len(runs)


def fact(run_id: str, record: Record) -> dict[str, str]:
    """The row of one record."""
    row: dict[str, Any] = {"run_id": run_id, "quant": record.axes.get("quant", ""), "verdict": record.verdict}
    row |= {"device_name": record.device.get("name", ""), "device_identity": identity_text(record.device)}
    row |= {name: record.details.get(name, "") for name in DETAILS}
    row |= {name: record.environment.get(name, "") for name in VERSIONS}
    return {name: str(value) for name, value in row.items()}


def _readable(path: Path | None) -> Record | None:
    try:
        return None if path is None else read_record(path)
    except RecordError:
        return None
