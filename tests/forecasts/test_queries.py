"""The shapes that a user asks about, and where they are taken to be meant."""

import pandas as pd
import pytest

from src.config.errors import ConfigError
from src.forecasts.evidence.cells import OWN
from src.forecasts.queries import read_queries, usual_place
from tests.forecasts.synthetic import DEVICE, made_cells


def asked(tmp_path, *lines: str):
    path = tmp_path / "shapes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_queries(
        path, made_cells("grid.csv"), {"fp8dq": "float8dq"}, usual_place(made_cells("grid.csv"))
    )


def test_what_a_row_does_not_say_is_where_most_was_measured(tmp_path):
    (query,), refused = asked(tmp_path, "M,K,N,quant", "64,3072,3072,fp8dq")
    assert (query.device, query.compile, query.dtype, query.quant) == (
        DEVICE,
        "default",
        "bfloat16",
        "float8dq",
    )
    assert not refused


def test_a_row_may_name_device_compile_and_dtype(tmp_path):
    lines = ("M,K,N,quant,device,compile,dtype", "64,3072,3072,int8wo,5000,none,float32")
    (query,), _ = asked(tmp_path, *lines)
    assert (query.device, query.compile, query.dtype) == (DEVICE, "none", "float32")


def test_an_own_runs_device_is_the_usual_one():
    own = made_cells(OWN, device="Here, 2 threads").head(3)
    assert usual_place(pd.concat([made_cells("grid.csv"), own]))["device"] == "Here, 2 threads"


def test_wrong_rows_are_refused_and_missing_columns_an_error(tmp_path):
    rows = [f"{m},{k},64,int8wo" for m, k in ((0, 64), (8, 10**9), (8, 64))]
    queries, refused = asked(tmp_path, "M,K,N,quant", *rows)
    assert len(queries) == 1
    assert "shapes.csv, line 2: M=0: must be above 0" in refused[0]
    assert "line 3: K=1000000000" in refused[1]
    with pytest.raises(ConfigError, match=r"predict=.*column quant is missing; wanted are M, K, N, quant"):
        asked(tmp_path, "M,K,N", "1,2,3")
