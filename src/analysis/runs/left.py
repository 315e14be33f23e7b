"""What sweeps with a budget left to the forecast, as far as it was not measured since."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from src.records.record import RecordError
from src.records.store import LEFT_NAME, latest_final

COLUMNS = ["run_key", "run", "verdict", "speedup", "low", "high", "sure", "reason"]
_TEXTS = ["run_key", "run", "verdict", "reason"]


def left_to_forecast(outputs: Path, sweep: str | None, measured: Collection[str]) -> pd.DataFrame:
    """The rows of the sweeps' lists, the newest of each run, the least sure first.

    Args:
        outputs: the folder of all runs.
        sweep: only this one's; None: all.
        measured: keys of runs that the tracker has; those with a record in `outputs` count too, whatever experiment
            or treatment they are of.
    """
    tables = []
    for path in sorted(outputs.glob(f"sweeps/{sweep or '*'}/{LEFT_NAME}")):
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False, na_values=[""])
        tables.append(table.reindex(columns=COLUMNS))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.concat(tables, ignore_index=True)
    rows[_TEXTS] = rows[_TEXTS].fillna("")
    rows = rows[~rows["run_key"].isin(list(measured))].drop_duplicates("run_key", keep="last")
    rows = rows[~rows["run_key"].map(lambda key: _is_measured(outputs, key)).astype(bool)]
    return rows.sort_values("sure", kind="stable").reset_index(drop=True)


def _is_measured(outputs: Path, run_key: str) -> bool:
    """Whether a record says so; one that cannot be read says nothing."""
    try:
        return latest_final(outputs, run_key) is not None
    except RecordError:
        return False


def write_left_out(left: pd.DataFrame, folder: Path) -> list[Path]:
    """`left.csv` beside the report, where anything was left."""
    path = folder / LEFT_NAME
    if left.empty:
        path.unlink(missing_ok=True)  # of an earlier report
        return []
    left.to_csv(path, index=False)
    return [path]
