"""What others measured: shapes and models from CSV files, the wrong rows refused one by one."""

from pathlib import Path

import pytest

from src.config.errors import ConfigError
from src.forecasts.evidence.imports import read_imports

GRID = Path("outputs/published/nvidia-h100-80gb-hbm3/linear_grid.csv")
HEAD = "device,compile,dtype,M,K,N,quant,speedup"
SOUND = "H100,default,bfloat16,256,3072,3072,float8dq,1.24"
MODEL_HEAD = "source,hardware,model,batch,steps,resolution/frames,compile,fuse_qkv,quant,time_s,notes"
ALIASES = {"fp8dqrow": "float8_e4m3_row", "fp8dq": "float8dq"}


def file(tmp_path: Path, *lines: str, name: str = "grid.csv") -> str:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_published_grid_is_taken_whole():
    found = read_imports([str(GRID)], {})
    assert len(found.cells) == 141
    assert not found.refused
    assert set(found.cells["source"]) == {"linear_grid.csv"}
    assert found.cells["low"].isna().all()  # the spread of pairs is no interval
    assert (found.cells["baseline_ms"] > 0).all()


def test_a_column_that_is_nearly_one_that_is_read_is_said(tmp_path):
    head, row = f"{HEAD.replace('compile', 'Compile')},note", f"{SOUND},mine"
    found = read_imports([file(tmp_path, head, row)], {})
    assert len(found.cells) == 1
    assert [line.partition("line 1: ")[2] for line in found.refused] == [
        "column Compile is not read; did you mean compile?"
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("H100,default,bfloat16,256,3072,3072,float8dq,0", "speedup=0: must be above 0.0001"),
        ("H100,default,bfloat16,256,3072,3072,float8dq,fast", "speedup=fast: not a number"),
        (
            'H100,default,bfloat16,256,3072,3072,float8dq,"1,24"',
            "speedup=1,24: a comma as decimal; write 1.24",
        ),
        ("H100,default,bfloat16,256,3072,3072,float8dq,1,24", "9 values for 8 columns; a comma in a number?"),
        ("H100,default,bfloat16,256,3072,3072,float8dq", "7 values for 8 columns"),
        ("H100,default,bfloat16,0,3072,3072,float8dq,1.2", "M=0: must be above 0"),
        (
            "H100,default,bfloat16,256,1000000000,3072,float8dq,1.2",
            "K=1000000000: must be above 0 and at most",
        ),
        ("H100,default,bfloat16,256,3072.5,3072,float8dq,1.2", "K=3072.5: must be a whole number"),
        ("H100,default,bfloat16,256,3072,3072,float8dq,nan", "speedup=nan: must be"),
        (",default,bfloat16,256,3072,3072,float8dq,1.2", "device is empty"),
        ("H100,default,bfloat16,256,3072,3072,none,1.0", "quant=none: unquantized"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line_and_the_rest_taken(tmp_path, row, reason):
    found = read_imports([file(tmp_path, HEAD, SOUND, row, SOUND)], {})
    assert len(found.cells) == 2
    (told,) = found.refused
    assert "grid.csv, line 3: " in told
    assert reason in told


def test_an_interval_that_lies_elsewhere_is_refused(tmp_path):
    rows = (f"{HEAD},low,high", f"{SOUND},1.20,1.28", f"{SOUND},1.30,1.40")
    found = read_imports([file(tmp_path, *rows)], {})
    assert list(found.cells["low"]) == [1.20]
    assert "lies outside of its interval 1.3-1.4" in found.refused[0]


def test_a_speedup_that_is_not_the_ratio_of_its_times_is_refused(tmp_path):
    rows = (f"{HEAD},baseline_ms,treated_ms", f"{SOUND},1.3,1.0", f"{SOUND},1.0,1.3", f"{SOUND},1.0,")
    found = read_imports([file(tmp_path, *rows)], {})
    assert len(found.cells) == 2
    assert "line 3: speedup=1.24, but baseline_ms / treated_ms is 0.769" in found.refused[0]


def test_columns_that_are_missing_are_named_and_other_files_still_taken(tmp_path):
    lacking = file(tmp_path, "device,M,K,N,quant", "H100,1,2,3,int8wo", name="a.csv")
    found = read_imports([lacking, file(tmp_path, HEAD, SOUND)], {})
    assert len(found.cells) == 1
    assert "column speedup is missing for shapes" in found.refused[0]


def test_a_time_without_its_unit_is_said_and_not_read(tmp_path):
    found = read_imports([file(tmp_path, f"{HEAD},baseline", f"{SOUND},0.1")], {})
    assert found.cells["baseline_ms"].isna().all()
    assert "column baseline has no unit" in found.refused[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("device;M;K;N;quant;speedup\n", "semicolons"),
        ("\xff\xfe", "not a CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_a_config_error(tmp_path, text, reason):
    path = tmp_path / "grid.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=reason):
        read_imports([str(path)], {})
    with pytest.raises(ConfigError, match=r"import=.*nowhere"):
        read_imports([str(tmp_path / "nowhere.csv")], {})


def test_names_of_the_field_become_ours_and_unknown_ones_stay(tmp_path):
    rows = [SOUND.replace("float8dq", name) for name in ("fp8dqrow", "float8dq PerTensor", "somethingelse")]
    found = read_imports([file(tmp_path, HEAD, *rows)], ALIASES)
    assert list(found.cells["quant"]) == ["float8_e4m3_row", "float8dq", "somethingelse"]


def test_a_models_times_are_speedups_against_the_same_unquantized(tmp_path):
    rows = [
        "s,H100,flux,1,28,1024,True,False,None,4.0,",
        "s,H100,flux,1,28,1024,True,False,fp8dqrow,3.2,",
        "s,H100,flux,1,28,1024,True,True,fp8dq,2.5,",
        "s,H100,flux,1,28,1024,False,False,fp8dq,8.0,",
        "s,H100,flux,4,28,1024,True,False,None,,only a plot",
    ]
    found = read_imports([file(tmp_path, MODEL_HEAD, *rows)], ALIASES)
    row, fused = found.models.to_dict("records")
    assert (row["quant"], row["speedup"], row["against"]) == ("float8_e4m3_row", pytest.approx(1.25), "")
    assert fused["speedup"] == pytest.approx(1.6)
    assert fused["against"] == "unquantized with fuse_qkv=False"
    assert "line 5: fp8dq: no unquantized row" in found.refused[1]
    assert "line 6: time_s is empty" in found.refused[0]


def test_of_several_unquantized_rows_the_fastest_counts(tmp_path):
    rows = [f"s,A100,SDXL,1,30,1024,max-autotune,,{quant},{time}," for quant, time in
            (("none", 2.54), ("none", 2.52), ("int8dq", 2.43))]  # fmt: skip
    (row,) = read_imports([file(tmp_path, MODEL_HEAD, *rows)], {}).models.to_dict("records")
    assert row["speedup"] == pytest.approx(2.52 / 2.43)
    assert row["against"] == "fastest of 2 unquantized rows"


def test_tables_of_one_document_are_one_source_and_other_notes_are_said(tmp_path):
    told = ((7, "None", 4.0, "plain"), (9, "fp8dq", 2.0, "vae"))
    rows = [
        f"doc line {at},H100,flux,1,28,1024,True,,{quant},{time},{notes}" for at, quant, time, notes in told
    ]
    (row,) = read_imports([file(tmp_path, MODEL_HEAD, *rows)], ALIASES).models.to_dict("records")
    assert (row["speedup"], row["against"]) == (pytest.approx(2.0), "its notes differ")


def test_samples_of_one_time_are_one_row(tmp_path):
    rows = [f"s,H100,flux,1,28,1024,True,,{quant},{time}," for quant, time in
            (("bf16", 4.0), ("fp8dq", 2.0), ("fp8dq", 8.0))]  # fmt: skip
    (row,) = read_imports([file(tmp_path, MODEL_HEAD, *rows)], ALIASES).models.to_dict("records")
    assert (row["samples"], row["time_s"]) == (2, pytest.approx(4.0))
