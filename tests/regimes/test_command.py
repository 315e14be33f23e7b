"""`python -m src.analyze import=... predict=...`: from files, and from a store with or without runs, to forecasts."""

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from src.analyze import main, with_imports
from src.config.errors import ConfigError
from src.config.schema.root import AnalyzeConf, TrackingConf
from src.report.analysis import analyze

GRID = Path("outputs/published/nvidia-h100-80gb-hbm3/linear_grid.csv")


@pytest.fixture
def shapes(tmp_path) -> Path:
    path = tmp_path / "shapes.csv"
    path.write_text(
        "M,K,N,quant\n2048,4096,4096,float8dq\n1,4096,4096,fp8wo\n64,64,64,int8dq\n0,1,1,int8wo\n"
    )
    return path


@pytest.fixture
def few(tmp_path) -> Path:
    """The cells of two schemes."""
    first, *rows = GRID.read_text().splitlines(keepends=True)
    path = tmp_path / "few.csv"
    path.write_text("".join([first, *(row for row in rows if {"float8dq", "int8dq"} & {*row.split(",")})]))
    return path


def analysed(tmp_path: Path, **changed: object) -> tuple[int, str]:
    tracking = TrackingConf(name="sqlite", uri=f"sqlite:///{tmp_path}/none.db")
    given = {"tracking": tracking, "outputs": str(tmp_path), "report": str(tmp_path / "report")} | changed
    out = io.StringIO()
    return analyze(AnalyzeConf(**given), Console(file=out, width=100)), out.getvalue()  # type: ignore[arg-type]


def test_an_import_alone_predicts(tmp_path, shapes):
    status, printed = analysed(tmp_path, imports=[str(GRID)], predict=str(shapes))
    found = pd.read_csv(tmp_path / "report" / "predictions.csv", keep_default_na=False, na_values=[""])
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert status == 0
    assert list(found["verdict"]) == ["helps", "hurts", "unknown"]
    assert list(found["quant"]) == ["float8dq", "float8wo", "int8dq"]
    assert (found["low"].iloc[:2] < found["speedup"].iloc[:2]).all()
    assert found["rule"].iloc[0].startswith("float8dq has no one verdict where K×N ≤ 9.44 M")
    assert "K=64 is more than 3 times beyond" in found["reason"].iloc[2]
    assert printed.startswith("note: no runs here yet; predicted from what was imported\n")
    assert "2048×4096×4096 float8dq: helps" in printed
    assert "64×64×64 int8dq: unknown: K=64" in printed
    assert "shapes.csv, line 5: M=0" in printed
    assert "141 published cells of single layers" in " ".join(printed.split())
    assert "Published elsewhere" in page
    assert "Predicted" in page
    assert "With one (K, N) of 9, several at once, left out" in page


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"predict": "model", "workload": ["model=linear", "quant=float8dq", "gpu=h100"]},
      "; predicted from cells that came with this program"), ({}, None)],
)  # fmt: skip
def test_a_fresh_clone_reads_no_error_where_it_can_predict(tmp_path, changed, told):
    """What is missing for verdicts is not missing here; without a question it is an error as before."""
    if told is None:
        with pytest.raises(ConfigError, match="no database at"):
            analysed(tmp_path)
        return
    status, printed = analysed(tmp_path, **changed)
    assert status == 0
    assert printed.splitlines()[0] == f"note: no runs here yet{told}"
    assert "no database" not in printed


def test_whole_models_are_predicted(tmp_path, few):
    linear = ["model=linear", "model.dims.M=2048", "model.dims.K=4096", "model.dims.N=4096"]
    words = [*linear, "quant=float8dq,int8dq", "gpu=h100", "dtype=bfloat16"]
    status, printed = analysed(tmp_path, imports=[str(few)], predict="model", workload=words)
    found = pd.read_csv(tmp_path / "report" / "predictions.csv")
    layers = pd.read_csv(tmp_path / "report" / "predicted_layers.csv")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert status == 0
    assert list(found["verdict"]) == ["helps", "hurts"]
    assert list(layers["calls"]) == [1, 1]
    assert printed.index("Predicted: linear b1 float8dq") < printed.index("Rules for one Linear")
    assert "100% of" in printed
    assert ", sure >99%" in printed
    assert "Whole models, predicted" in page
    for _, layer in layers.iterrows():
        assert f"{layer['speedup']:.2f}× ({layer['low']:.2f}–{layer['high']:.2f})" in page


def test_a_device_that_is_not_here_is_predicted_without_runs_and_imports(tmp_path, shapes):
    status, printed = analysed(tmp_path, predict=str(shapes), device="h200")
    found = pd.read_csv(tmp_path / "report" / "predictions.csv", keep_default_na=False, na_values=[""])
    assert status == 0
    assert list(found["device"].unique()) == ["NVIDIA H200"]
    assert list(found["verdict"]) == ["helps", "hurts", "unknown"]
    assert (
        "nothing was measured here on NVIDIA H200: its cells came with this program"
        in found["reason"].iloc[0]
    )
    assert "2048×4096×4096 float8dq: helps" in printed
    status, printed = analysed(tmp_path, predict=str(shapes))
    assert status == 1
    said = " ".join(printed.split())
    assert "device=NAME predicts for one whose cells came with this program" in said
    assert "names no device, and none was measured here" in said

    shapes.write_text("M,K,N,quant,device\n2048,4096,4096,float8dq,h100\n1,4096,4096,int8dq,\n")
    status, printed = analysed(tmp_path, predict=str(shapes))
    assert status == 0
    assert "2048×4096×4096 float8dq: helps" in printed
    assert "names no device" in printed
    for wrong, why in (("", "is empty"), ("M,K,N\n1,1,1\n", "column quant is missing")):
        shapes.write_text(wrong)
        with pytest.raises(ConfigError, match=why):
            analysed(tmp_path, predict=str(shapes))


def test_nothing_that_can_be_taken_is_status_1(tmp_path):
    (tmp_path / "bad.csv").write_text("device,M,K,N,quant,speedup\nH100,1,1,1,int8wo,0\n")
    status, printed = analysed(tmp_path, imports=[str(tmp_path / "bad.csv")])
    assert status == 1
    assert "bad.csv, line 2: speedup=0" in printed


def test_import_may_be_given_often_and_as_a_list():
    told = with_imports(["import=a.csv", "margin=0.05", "import=[b.csv,c.csv]", "import=my grid.csv"])
    assert told == ["margin=0.05", 'imports=[a.csv,b.csv,c.csv,"my grid.csv"]']
    assert with_imports(["margin=0.05"]) == ["margin=0.05"]


def test_the_command_line_takes_it(tmp_path, shapes, few, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["analyze", f"import={few}", f"predict={shapes}", f"outputs={tmp_path}"])
    assert main() == 0
    assert "2048×4096×4096 float8dq: helps" in capsys.readouterr().out
    line = ["analyze", f"import={few}", "predict=model", "model=nowhere", f"outputs={tmp_path}"]
    monkeypatch.setattr("sys.argv", line)
    assert main() == 2
    assert "error: model=nowhere: no such option" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["analyze", "import=nowhere.csv", f"outputs={tmp_path}"])
    assert main() == 2
    assert "error: import=nowhere.csv: cannot be read" in capsys.readouterr().err
