"""Runs of layers=sensitive in the report: the predicted curve, and what was measured beside it."""

import json

import pytest

from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.weighed import NAME, Point, kinds_text, weighed
from src.config.schema.root import TrackingConf
from src.records.store import run_folder
from src.report.runs.weighed import weighed_section
from tests.analysis.synthetic import made

TARGET = "quant.layers.sensitive.min_sqnr_db"
FOUND = {
    "min_sqnr_db": 20.0,
    "predicted_sqnr_db": 21.5,
    "predicted_saved_ms": 2.0,
    "left": ["proj_out"],
    "curve": [
        {"left": "", "sqnr_db": 14.0, "saved_ms": 2.5},
        {"left": "proj_<out>", "sqnr_db": 21.5, "saved_ms": 2.0},
        {"left": "x_embedder", "sqnr_db": None, "saved_ms": 1.0},
    ],
}


def of(preset, speedup, target="20.0", **more):
    params = {
        "quant.layers.name": preset,
        "quant.layers.min_side": "512" if preset == "field_default" else "0",
    }
    key = f"{preset}{target}{more.get('quant', '')}"
    found = made(key, speedup, params=params | {TARGET: target}, **more)
    if preset == "sensitive":
        found.record.metrics["sensitive/kinds_left"] = 1.0
    return found


@pytest.fixture
def frame(store):
    def frame(*runs):
        name, _ = store.experiment(runs)
        return standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02))

    return frame


def write(outputs, run, content):
    folder = run_folder(outputs, run.record.run_key, 1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(content)


def test_the_curve_stands_beside_what_was_measured(frame, tmp_path):
    own, other = of("sensitive", 1.3), of("sensitive", 1.25, "25.0")
    runs = frame(own, other, of("all", 1.2), of("field_default", 1.28), of("all", 1.1, quant="int8wo"))
    write(tmp_path, own, json.dumps(FOUND))
    write(tmp_path, other, "no JSON")
    (found,) = weighed(runs, tmp_path)
    assert found.row["run_key"] == own.record.run_key
    assert {preset: row["speedup/ratio"] for preset, row in found.measured.items()} == pytest.approx(
        {"sensitive": 1.3, "all": 1.2, "field_default": 1.28}
    )
    base_ms = found.row["latency/baseline_median_ms"]
    assert found.points[0] == Point("", base_ms / (base_ms - 2.5), 14.0)
    assert [point.left for point in found.points] == ["", "proj_<out>"]
    assert found.chosen is not None
    assert found.chosen.speedup == pytest.approx(base_ms / (base_ms - 2.0))
    page = weighed_section([found])
    for text in ("every layer", "proj_&lt;out&gt;", "field_default", "left alone: proj_out", "21.5 dB"):
        assert text in page
    assert "proj_<out>" not in page


def test_a_mark_is_of_the_same_scheme_options(frame, tmp_path):
    runs = [
        of("sensitive", 1.3),
        of("all", 1.2),
        of("all", 1.6, quant="other"),
        of("field_default", 1.1),
    ]
    for run, size in zip(runs, ("32", "32", "64", "32"), strict=True):
        run.record.axes["quant"] = "int8dq"
        run.params["quant.config.group_size"] = size
    write(tmp_path, runs[0], json.dumps(FOUND))
    (found,) = weighed(frame(*runs), tmp_path)
    assert found.measured["all"]["speedup/ratio"] == pytest.approx(1.2)


def test_disturbed_runs_are_no_marks_and_have_no_curve(frame, tmp_path):
    own, other = of("sensitive", 1.3), of("all", 0.5)
    other.record.withhold("other processes used 1.7 of 2 CPUs", "a quiet machine")
    write(tmp_path, own, json.dumps(FOUND))
    (found,) = weighed(frame(own, other), tmp_path)
    assert [*found.measured] == ["sensitive"]
    own.record.withhold("other processes used 1.7 of 2 CPUs", "a quiet machine")
    assert weighed(frame(own), tmp_path) == []


def test_without_such_runs_nothing_is_said(frame, tmp_path):
    assert weighed(frame(of("all", 1.1)), tmp_path) == []
    assert weighed_section([]) == ""


def test_long_lists_are_cut_short():
    assert kinds_text(["a", "b"]) == "a, b"
    assert kinds_text([*"abcdef"]) == "a, b, c, d and 2 more"
