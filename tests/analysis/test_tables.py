"""The tables beside a report have the cells that pandas would write."""

from pathlib import Path

import pandas as pd
import pytest

from src.analysis.verdicts import write_csv

MOMENTS = {
    "whole seconds": ["2026-08-01T12:00:00", "2026-08-01T12:00:01"],
    "milliseconds": ["2026-08-01T12:00:00", "2026-08-01T12:00:01.120"],
    "microseconds": ["2026-08-01T12:00:00.000001", None],
    "days": ["2026-08-01", None],
}


@pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)
def test_a_table_is_written_as_pandas_writes_it(tmp_path: Path, moments: list[str | None]) -> None:
    table = pd.DataFrame({
        "started_at": pd.to_datetime(pd.Series(moments), utc=True, format="ISO8601"), "helps": [True, False],
        "reason": ['a "b", c', ""], "M": pd.array([1, None], dtype="Int64"), "speedup/ratio": [1.25, None],
    })  # fmt: skip
    own, theirs = tmp_path / "own.csv", tmp_path / "theirs.csv"
    write_csv(table, own)
    table.to_csv(theirs, index=False)
    read = [pd.read_csv(path, dtype="str", keep_default_na=False) for path in (own, theirs)]
    assert read[0].to_dict() == read[1].to_dict()
