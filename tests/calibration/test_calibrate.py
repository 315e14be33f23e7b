"""The command line from end to end: a tiny real calibration, its files, its MLflow run, who reads it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.analysis.runs.tracked.tracker import Tracker
from src.app.application import main
from src.calibrate import _task
from src.config.schema.root import CalibrateConf, CollectConf, TrackingConf
from src.processes.isolated import EndedBy, Ending, Preloaded
from src.records.record import SCHEMA_VERSION
from tests.calibration.test_measuring import TINY
from tests.conftest import ROOT, as_before

QUICK = (*TINY, "slowdowns=[0.5]")


class Calibrated:
    """What one calibration left behind."""

    def __init__(self, outputs: Path, status: int, printed: str, errors: str) -> None:
        self.outputs, self.status, self.printed, self.errors = outputs, status, printed, errors
        (self.folder,) = (outputs / "calibration").glob("*/*")
        self.record = json.loads((self.folder / "calibration.json").read_text())
        self.tracking = TrackingConf(name="sqlite", uri=f"sqlite:///{outputs}/mlflow.db")


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, fork_server: Preloaded, empty_database: Path
) -> Calibrated:
    outputs, out, err = tmp_path_factory.mktemp("outputs"), StringIO(), StringIO()
    shutil.copy(empty_database, outputs / "mlflow.db")
    overrides = [*QUICK, "experiments=4", "processes=2", f"outputs={outputs}"]
    with as_before(), redirect_stdout(out), redirect_stderr(err):
        status = main("calibrate", _task, overrides, prog="x")
    return Calibrated(outputs, status, out.getvalue(), err.getvalue())


def test_it_leaves_a_record_a_table_a_report_and_every_round(done: Calibrated) -> None:
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "calibration.json", "config.yaml", "experiments.csv", "experiments.jsonl", "processes.log", "published.json",
        "report.html",
    ]  # fmt: skip
    record, table = done.record, pd.read_csv(done.folder / "experiments.csv")
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["device"]["name"].endswith("1 thread")
    assert {"protocol", "torch", "host"} <= record["environment"].keys()
    assert record["config"]["slowdowns"] == [0.5]
    assert record["summary"]["timer_ns"]["per_round_ns"] > 0
    assert len(table) == len((done.folder / "experiments.jsonl").read_text().splitlines()) >= 2 * 4 + 4
    assert set(table["kind"]) == {"aa", "slowdown", "harness", "beside"}
    assert set(table["process"]) == {1, 2}
    slowed = table[table["kind"] == "slowdown"]
    assert ((slowed["truth"] > 0) & (slowed["truth"] < 1)).all()


def test_few_experiments_decide_nothing_and_it_says_so(done: Calibrated) -> None:
    statuses = {each["status"] for each in done.record["summary"]["requirements"]}
    assert "undecided" in statuses
    assert (done.status, done.record["passed"]) == (1, False)
    assert "at least 20 of a kind" in " ".join(done.printed.split())
    assert f"report: {done.folder}/report.html" in done.printed
    assert max(map(len, done.printed.splitlines()[:-1])) <= 100


def test_it_shows_progress_a_line_per_process(done: Calibrated) -> None:
    assert re.search(r"^\[1/2\] \d+ of 12 experiments; ", done.errors, re.M)
    assert re.search(r"^\[2/2\] ", done.errors, re.M)
    assert "Traceback" not in done.errors + done.printed


def test_mlflow_has_it_once_with_its_files_and_no_reader_takes_it_for_a_run(done: Calibrated) -> None:
    from src.collect import collect

    tracker = Tracker(done.tracking)
    assert tracker.runs() == []
    (run,) = tracker.calibrations()
    tags, metrics = run.tags, tracker._client.get_run(run.run_id).data.metrics
    assert (tags["kind"], tags["passed"], tags["published"]) == ("calibration", "false", "1")
    assert tags["device"] == done.record["device"]["name"]
    assert {"calibration/timer_ns", "calibration/experiments", "calibration/crowded"} <= metrics.keys()
    assert tracker.artifact(run.run_id, "calibration.json", done.outputs) is not None
    assert collect(CollectConf(tracking=done.tracking, outputs=str(done.outputs))) == 0
    assert len(tracker.calibrations()) == 1


def test_what_a_tracker_lacks_is_published_later_and_once(
    done: Calibrated, capsys: pytest.CaptureFixture[str]
) -> None:
    from src.collect import collect

    conf = CollectConf(tracking=replace(done.tracking, experiment="another"), outputs=str(done.outputs))
    assert [collect(conf) for _ in range(2)] == [0, 0]
    assert capsys.readouterr().out.count("calibrations published: 1") == 1
    tracker = Tracker(conf.tracking)
    (run,) = tracker.calibrations()
    metrics = tracker._client.get_run(run.run_id).data.metrics
    assert metrics["calibration/experiments"] == done.record["summary"]["experiments"]
    assert run.tags["status"] == done.record["summary"]["status"]


def test_the_report_is_self_contained(done: Calibrated) -> None:
    page = (done.folder / "report.html").read_text()
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?(?!["']?data:)""", page)
    assert len(page.encode()) < 1_000_000
    table = pd.read_csv(done.folder / "experiments.csv")
    compared = table[
        table["kind"].isin(["aa", "slowdown"]) & ~table["crowded"]
    ]  # a busy machine may leave none
    assert page.count('<svg class="plot') >= (0 if compared.empty else 2)
    assert "prefers-color-scheme: dark" in page
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    overrides = [*QUICK, "dtype=float32", "experiments=500", "processes=1", f"outputs={tmp_path}"]
    command = [sys.executable, "-m", "src.calibrate", *overrides]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 240
    while (
        process.poll() is None
        and time.monotonic() < end
        and not list(tmp_path.glob("calibration/*/*/experiments.jsonl"))
    ):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=240)
    found = Calibrated(tmp_path, process.returncode, printed, errors)
    assert (found.status, found.record["interrupted"], found.record["passed"]) == (130, True, False)
    assert len(pd.read_csv(found.folder / "experiments.csv")) >= 1
    assert f"kept in {found.folder}" in printed
    assert "Traceback" not in errors
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("target=blok", "target=blok: model flux-tiny has no such target; did you mean block?"),
        ("slowdowns=[0]", "slowdowns=0.0: must be above 0"),
        ("slowdowns=[0.1,0.1]", "each of them once"),
        ("experiments=0", "experiments=0: must be between 1 and 10000"),
        ("model.dims.side=nonsense", "model.dims.side"),
        ("quant=int8wo", "quant"),
    ],
)
def test_a_mistake_is_one_line(override: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("calibrate", lambda _: 0, [override], prog="x") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


def test_a_device_that_is_not_here_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Here:
        def __init__(self, modules: list[str]) -> None: ...

        def run(
            self, job: Callable[..., Any], arguments: tuple[Any, ...], log: Path, timeout_s: float
        ) -> Ending:
            return Ending(EndedBy.ITSELF, job(*arguments, lambda _: None))

    monkeypatch.setattr("src.calibration.calibration.Preloaded", Here)
    monkeypatch.setattr("src.calibration.calibration.prepared", lambda outputs: outputs)
    overrides = [*TINY, "gpu.match=No-such-CPU", f"outputs={tmp_path}"]
    assert main("calibrate", _task, overrides, prog="x") == 2
    assert capsys.readouterr().err.startswith("error: gpu=cpu: this machine's CPU is ")
    assert not list((tmp_path / "calibration").iterdir())


def test_the_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("calibrate", lambda _: 0, ["--help"], prog="python -m src.calibrate") == 0
    text = capsys.readouterr().out
    assert [f.name for f in fields(CalibrateConf) if not re.search(rf"^  {f.name} ", text, re.M)] == []
    assert not re.search(r"_schema|\$[A-Z]|\$\{", text)
    assert max(map(len, text.splitlines())) <= 120
