"""The analysis says of each device whether it was calibrated, and how that ended."""

from dataclasses import replace

import pytest

from src.analysis.runs import calibrated
from src.analysis.runs.tracked.tracker import Tracker
from src.calibration.record import Calibration
from src.calibration.report import write_files
from src.calibration.summary import summarize
from src.calibration.tracking import publish
from src.records.mlflow.connection import connect
from tests.analysis.synthetic import CPU, made, write_records
from tests.calibration.synthetic import MEASURE, instrument, write_raw

CONFIG = {"measure": {"name": "standard", "margin": 0.02}, "model": {"name": "flux-tiny"}, "target": "block",
          "compile": {"name": "regional"}, "batch": 1, "dtype": "bfloat16", "seed": 0, "processes": 12}  # fmt: skip


@pytest.fixture
def calibrate(store, tmp_path_factory):
    """calibrate(experiment, date, device=, protocol=, bias=...): publish a calibration as the command would."""

    def published(
        experiment: str, date: str, device: str = CPU, protocol: str = "1", **quality: float
    ) -> None:
        folder = tmp_path_factory.mktemp("calibration")
        experiments = instrument(**quality)
        write_raw(experiments, folder)
        done = Calibration({"name": device}, {"protocol": protocol}, CONFIG, summarize(experiments, MEASURE),
                           f"{date}T10:00:00+00:00", f"{date}T10:15:00+00:00")  # fmt: skip
        write_files(done, experiments, folder)
        publish(folder, connect(store.conf(experiment).tracking))

    return published


@pytest.fixture
def experiment(store) -> str:
    """An experiment with one run on the CPU, of protocol 1."""
    run = made(f"calibrated-{next(store.names)}", 1.1)
    name, _ = store.experiment([run])
    write_records(store.outputs, [run])
    return name


def notes(store, analysing, experiment: str) -> str:
    """What the analysis notes, on one line."""
    _, printed = analysing(store.conf(experiment))
    text = " ".join(printed.split())
    return text[text.index("note:") :] if "note:" in text else ""


def page(store, experiment: str) -> str:
    return (store.outputs / "reports" / experiment / "report.html").read_text()


def test_a_device_without_a_calibration_is_told_with_the_command(store, analysing, experiment):
    found = notes(store, analysing, experiment)
    assert f"{CPU} has no calibration here: python -m src.calibrate" in found
    assert "Calibration</dt>" not in page(store, experiment)


def test_a_device_that_passed_is_named_and_not_warned_of(store, analysing, experiment, calibrate):
    calibrate(experiment, "2026-07-01")
    assert "calibrat" not in notes(store, analysing, experiment)
    assert f"<dt>Calibration</dt><dd>{CPU}: 2026-07-01, passed" in page(store, experiment)
    assert "equal copies told apart: 0 of 60" in page(store, experiment)


def test_the_newest_calibration_counts(store, analysing, experiment, calibrate):
    calibrate(experiment, "2026-07-02", sensitivity=0.0)
    calibrate(experiment, "2026-07-01")
    found = notes(store, analysing, experiment)
    assert (
        f"The newest calibration of {CPU} (2026-07-02) did not pass: A slowdown of 3 % is found: 0 of 60"
        in found
    )
    calibrate(experiment, "2026-07-03")
    assert "did not pass" not in notes(store, analysing, experiment)


def test_another_protocol_is_told(store, analysing, experiment, calibrate):
    calibrate(experiment, "2026-07-01", protocol="0")
    found = notes(store, analysing, experiment)
    assert "was calibrated with measurement protocol 0, its runs were made with 1" in found


def test_a_calibration_of_another_device_or_one_half_published_does_not_count(
    store, analysing, experiment, calibrate
):
    calibrate(experiment, "2026-07-01", device="another device")
    calibrate(experiment, "2026-07-02")
    run = Tracker(store.conf(experiment).tracking).calibrations()[0]
    store.client.delete_tag(run.run_id, "published")
    assert f"{CPU} has no calibration here" in notes(store, analysing, experiment)


def test_an_undecided_calibration_did_not_pass(store, analysing, experiment, calibrate):
    calibrate(experiment, "2026-07-01", experiments=4, processes=4)
    assert "did not pass: undecided, too little was measured to say" in notes(store, analysing, experiment)


def test_a_device_that_only_appears_in_runs_without_a_speedup_needs_none(store):
    found = calibrated.Calibrated(CPU, "2026-07-01", "met", True, "", "0 of 60", "1", "standard")
    assert list(calibrated.warnings({}, {}, {})) == []
    assert list(calibrated.warnings({(CPU, ""): CPU}, {(CPU, ""): found}, {})) == []
    failed = replace(found, passed=False, status="not met", failed="x")
    assert len(list(calibrated.warnings({(CPU, ""): CPU}, {(CPU, ""): failed}, {}))) == 1
