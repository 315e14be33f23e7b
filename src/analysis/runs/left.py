"""What sweeps with a budget left to the forecast, as far as it was not measured since."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from src.records.store import LEFT_NAME

COLUMNS = ["run_key", "run", "verdict", "speedup", "low", "high", "sure", "reason"]
_TEXTS = ["run_key", "run", "verdict", "reason"]


def left_to_forecast(outputs: Path, sweep: str | None, measured: Collection[str]) -> pd.DataFrame:
    """The rows of the sweeps' lists, the newest of each run, the least sure first.

    Args:
        outputs: the folder of all runs.
        sweep: only this one's; None: all.
        measured: keys of runs that have a record.
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
    return rows.sort_values("sure", kind="stable").reset_index(drop=True)


def write_left_out(left: pd.DataFrame, folder: Path) -> list[Path]:
    """`left.csv` beside the report, where anything was left."""
    path = folder / LEFT_NAME
    if left.empty:
        path.unlink(missing_ok=True)  # of an earlier report
        return []
    left.to_csv(path, index=False)
    return [path]
