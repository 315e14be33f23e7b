"""Publishing to a real database: repeatable, complete, quick to notice what is wrong."""

import errno
import fcntl
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from alembic.config import Config

from src.config.schema.root import TrackingConf
from src.records.locks import locked
from src.records.mlflow.connection import mend_folder, probe
from src.records.mlflow.content import label, params, settings
from src.records.mlflow.options import OPTIONS_TAG
from src.records.mlflow.summary import answer
from src.records.mlflow.tracking import Tracker, TrackingError, UnpublishableError, open_tracker
from src.records.mlflow.view import ui_command
from src.records.record import Outcome, Record, read_record
from src.records.store import SweepManifest, sweep_folder
from tests.records.run_folders import free_port, local, make_run, make_sweep


def runs(tracker: Tracker, query: str = "tags.kind = 'run'"):
    return tracker.client.search_runs([tracker.connection.experiment_id], query)


def history(tracker: Tracker, run_id: str, metric: str):
    return sorted((m.step, m.value) for m in tracker.client.get_metric_history(run_id, metric))


def opened(tracker: Tracker, outputs: Path, sweep: str = "s") -> str:
    return tracker.open_sweep(SweepManifest(sweep), sweep_folder(outputs, sweep))


def published_sweep(tracker: Tracker, outputs: Path, number: int = 3) -> list[Path]:
    folders = [
        make_run(outputs, f"key{i}", "sweep-1", speedup=0.8 + 0.2 * i, quant=f"q{i}") for i in range(number)
    ]
    manifest = make_sweep(outputs, "sweep-1", folders)
    parent = tracker.open_sweep(manifest, sweep_folder(outputs, manifest.sweep))
    for folder in folders:
        tracker.publish(folder, parent)
    tracker.close_sweep(parent, outputs / "sweeps" / "sweep-1")
    return folders


def test_a_run_is_complete(tracker, outputs):
    folder = make_run(outputs, "key", "s", pairs=1000, quant="float8dq")
    parent = opened(tracker, outputs)
    run_id = tracker.publish(folder, parent)
    run = tracker.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 60_000
    assert run.data.params["quant"] == "float8dq"
    assert {*run.data.params} == {*read_record(folder / "record.json").axes}
    options = json.loads(run.data.tags[OPTIONS_TAG])
    assert options["quant.name"] == "float8dq"
    assert not [name for name in options if name.startswith(("tracking", "outputs", "measure.budget"))]
    expected = {"outcome": "ok", "verdict": "helps", "run_key": "key", "sweep": "s", "device": "Made-up CPU"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["published"] == "1"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.metrics["speedup/ratio"] == 1.2
    assert len(history(tracker, run_id, "rounds/treated_ms")) == 200
    assert [step for step, _ in history(tracker, run_id, "distribution/treated_ms")] == list(range(0, 101, 5))
    names = {f.path for f in tracker.client.list_artifacts(run_id)}
    assert names == {"record.json", "config.yaml", "rounds.json", "run.log"}


def test_publishing_again_changes_nothing(tracker, outputs):
    folders = published_sweep(tracker, outputs)
    [before] = runs(tracker, "tags.run_key = 'key1'")
    points = history(tracker, before.info.run_id, "rounds/speedup")
    for folder in folders:  # as if the process had died just before writing its marker
        (folder / "published.json").unlink()
        tracker.client.set_tag(before.info.run_id, "published", "0")
    again = open_tracker(local(outputs))
    parent = opened(again, outputs, "sweep-1")
    for folder in folders:
        again.publish(folder, parent)
    again.close_sweep(parent, outputs / "sweeps" / "sweep-1")
    assert len(runs(tracker)) == 3
    [after] = runs(tracker, "tags.run_key = 'key1'")
    assert after.info.run_id == before.info.run_id
    assert history(tracker, after.info.run_id, "rounds/speedup") == points
    assert after.data.to_dictionary() | {"tags": 0} == before.data.to_dictionary() | {"tags": 0}
    assert len(history(tracker, parent, "sweep/runs")) == 1


def test_the_sweep_itself_shows_what_came_out(tracker, outputs):
    published_sweep(tracker, outputs)
    [parent] = runs(tracker, "tags.kind = 'sweep'")
    assert parent.info.status == "FINISHED"
    counts = {name: parent.data.metrics[f"sweep/{name}"] for name in ("runs", "helps", "hurts", "neutral")}
    assert counts == {"runs": 3, "helps": 1, "hurts": 1, "neutral": 1}
    assert parent.data.metrics["sweep/best_speedup"] == pytest.approx(1.2)
    note = parent.data.tags["mlflow.note.content"].splitlines()
    assert note[0].startswith(
        "**Use q2 on Made-up CPU**: the fastest of 3 quantized runs (1 helps, 1 hurts, 1 neu"
    )
    assert "q2 default b1 flux-tiny" in note[6]  # the fastest first
    experiment = tracker.client.get_experiment(tracker.connection.experiment_id)
    assert "metrics.`speedup`" in experiment.tags["mlflow.sharedViewState.sweep-1"]
    assert "viewStateShareKey=sweep-1" in tracker.link("sweep-1")


def test_the_view_has_the_answers_columns_and_only_the_axes_that_differ(tracker, outputs):
    published_sweep(tracker, outputs)
    experiment = tracker.client.get_experiment(tracker.connection.experiment_id)
    view = json.loads(experiment.tags["mlflow.sharedViewState.sweep-1"])
    named = [column.partition(".")[2].strip("`") for column in view["selectedColumns"]]
    numbers = ["speedup", "low", "high", "pairs", "ms", "saved_percent", "sqnr_db"]
    assert named == ["outcome", "verdict", *numbers, "weights", "reason", "quant", "device"]
    [best] = tracker.client.search_runs(
        [experiment.experiment_id],
        view["searchFilter"],
        order_by=[f"{view['orderByKey']} DESC"],
        max_results=1,
    )
    metrics = best.data.metrics
    assert list(metrics)[: len(numbers)] == [n for n in numbers if n != "saved_percent"] + ["saved_percent"]
    assert (metrics["speedup"], metrics["low"], metrics["saved_percent"]) == (1.2, 1.182, 50)
    assert metrics["faster_percent"] == 20
    assert metrics["ms"] == float(f"{metrics['latency/median_ms']:.4g}")


def test_charts_are_one_view_per_batch(tracker, outputs):
    folders = [make_run(outputs, f"key{b}", "sweep-1", batch=b) for b in (1, 4, 16)]
    manifest = make_sweep(outputs, "sweep-1", folders)
    parent = tracker.open_sweep(manifest, sweep_folder(outputs, "sweep-1"))
    assert "charts: http" in tracker.link("sweep-1")
    for folder in folders:
        tracker.publish(folder, parent)
    tracker.close_sweep(parent, outputs / "sweeps" / "sweep-1")
    lines = tracker.link("sweep-1").splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == [
        *("charts, batch 1", "charts, batch 4", "charts, batch 16"), "table"
    ]  # fmt: skip
    key = lines[2].partition("viewStateShareKey=")[2].partition("&")[0]
    experiment = tracker.client.get_experiment(tracker.connection.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    assert [run.data.params["batch"] for run in runs(tracker, view["searchFilter"])] == ["4"]


@pytest.mark.parametrize(
    ("speedups", "says"),
    [
        ([1.5, 1.48, 0.7], "**Use q0**: the fastest of 3 quantized runs (2 helps, 1 hurts) is q0"),
        ([0.9, 0.7], "**Leave it unquantized**: of 2 quantized runs none helps (2 hurts); the best is q0"),
        ([], "**No speedup was measured**: no run was recorded."),
    ],
)
def test_a_sweeps_answer_in_a_sentence(speedups, says):
    records = [
        Record("k", 1, "s", {"quant": f"q{i}", "model": "flux"}, Outcome.OK, "helps" if x > 1 else "hurts", metrics={
            "speedup/ratio": x, "speedup/ci_low": x - 0.02, "speedup/ci_high": x + 0.01})
        for i, x in enumerate(speedups)
    ]  # fmt: skip
    assert answer(records).startswith(says)
    assert ("1 more cannot be told apart from it" in answer(records)) == (len(speedups) == 3)


@pytest.mark.parametrize(
    ("regional", "says"),
    [
        (
            (1.10, 50.0),
            "**Use int8dq**: the fastest of 2 quantized runs (2 helps) is int8dq regional b? ?, 1.100x",
        ),
        (
            (0.80, 70.0),
            "**Leave it unquantized**: with compile=regional it then takes 56 ms, less than with anything",
        ),
    ],
)
def test_a_slower_compile_mode_is_not_recommended_for_its_larger_speedup(regional, says):
    records = [
        Record("k", 1, "s", {"quant": "int8dq", "compile": mode}, Outcome.OK, "helps" if x > 1 else "hurts", metrics={
            "speedup/ratio": x, "speedup/ci_low": x * 0.99, "speedup/ci_high": x * 1.01,
            "latency/median_ms": ms, "latency/baseline_median_ms": ms * x})
        for mode, (x, ms) in (("none", (1.3, 100.0)), ("regional", regional))
    ]  # fmt: skip
    assert answer(records).startswith(says)
    assert "cannot be told apart" not in answer(records)


def test_runs_on_several_devices_are_not_held_against_each_other():
    records = [
        Record(
            "k",
            1,
            "s",
            {"quant": "q"},
            Outcome.OK,
            "helps",
            device={"name": name},
            metrics={"speedup/ratio": x},
        )
        for name, x in (("A", 1.2), ("B", 1.4))
    ]
    assert answer(records).startswith("**Quantizing helps in 2 of 2 runs** (2 helps); most: q")


def test_a_sweep_on_a_busy_machine_says_that_it_has_no_verdict():
    withheld = {"details": {"withheld": True}, "metrics": {"speedup/ratio": 1.3}}
    records = [Record(k, 1, "s", {"quant": "q"}, Outcome.OK, "inconclusive", **withheld) for k in "ab"]
    assert answer(records) == "**No verdict, as 2 runs of 2 were disturbed**: 2 ok."
    assert answer(records[:1]) == "**No verdict, as 1 run of 1 was disturbed**: 1 ok."


def test_of_several_workloads_the_answer_counts():
    records = [
        Record("k", 1, "s", {"quant": "q", "batch": batch}, Outcome.OK, verdict, metrics={"speedup/ratio": x})
        for batch, verdict, x in ((1, "helps", 1.1), (4, "hurts", 0.7), (8, "inconclusive", 1.4))
    ]
    told = "**Quantizing helps in 1 of 3 runs** (1 helps, 1 hurts, 1 inconclusive); most: q"
    assert answer(records).startswith(told)
    assert "1.100x" in answer(records)


def test_a_runs_name_has_every_axis_and_what_differs_in_its_sweep():
    axes = {
        "model": "flux", "quant": "int8wo", "compile": "none", "batch": 4, "gpu": "h100", "resolution": 256,
        "target": "denoiser", "dtype": "float16", "task": "latency", "seed": 0,
    }  # fmt: skip
    record = Record("k", 1, "s", axes)
    assert label(record) == "int8wo none b4 flux 256px float16 h100"
    record.axes = axes | {"target": "block", "task": "serialize", "seed": 2, "quant.group_size": "64"}
    assert (
        label(record) == "int8wo none b4 flux 256px block float16 serialize h100 seed 2 quant.group_size=64"
    )
    record.axes = axes | {"resolution": 0, "model": "linear", "model.dims.M": "16"}
    assert (
        label(record) == "int8wo none b4 linear float16 h100 model.dims.M=16"
    )  # it ended before it was built
    record.shape = {"M": 64, "K": 8, "N": 8}
    assert label(record) == "int8wo none b4 linear 64x8x8 float16 h100"
    record.axes |= {"target": "linear", "gpu": "auto"}  # a Linear is its own target, and any device may do
    assert label(record) == "int8wo none b4 linear 64x8x8 float16"
    assert label(Record("k", 1, "s", {})) == "? ? b? ?"


def test_what_differs_in_a_sweep_is_a_parameter(tracker, outputs):
    folder = make_run(outputs, "key", "s")
    record = read_record(folder / "record.json")
    record.axes |= {"measure.budget_s": "1e1", "quant@quant.candidates.row": "fp8dqrow"}
    record.write(folder)
    found = params(record, settings(record, folder))
    assert found["measure.budget_s"] == "10.0"  # as it was resolved
    assert found["quant_quant.candidates.row"] == "fp8dqrow"
    tracker.publish(folder, opened(tracker, outputs))


def test_a_sweep_that_skips_a_run_lists_it_too(tracker, outputs):
    [folder] = published_sweep(tracker, outputs, 1)
    manifest = SweepManifest.start("sweep-2", [])
    manifest.add("key0", 1, skipped=True)
    manifest.write(outputs)
    parent = tracker.open_sweep(manifest, sweep_folder(outputs, manifest.sweep))
    tracker.close_sweep(parent, outputs / "sweeps" / "sweep-2")
    assert len(runs(tracker)) == 1
    assert [len(runs(tracker, f"tags.sweeps LIKE '% sweep-{i} %'")) for i in (1, 2)] == [1, 1]
    assert tracker.client.get_run(parent).data.metrics["sweep/hurts"] == 1
    assert tracker.is_published(folder, read_record(folder / "record.json"))
    assert folder.exists()


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Outcome.UNSUPPORTED, "FINISHED"), (Outcome.KILLED, "KILLED"), (Outcome.TIMEOUT, "FAILED")],
)
def test_runs_without_numbers_are_published_too(tracker, outputs, outcome, status):
    folder = make_run(outputs, "key", "s", record=False)
    Record("key", 1, "s", {"quant": "x" * 7000}, outcome, reason="needs SM89 " * 1000).write(folder)
    run = tracker.client.get_run(tracker.publish(folder, opened(tracker, outputs)))
    assert (run.info.status, run.data.tags["outcome"]) == (status, outcome)
    assert len(run.data.params["quant"]) == 6000


def test_a_lost_run_that_comes_home_replaces_its_record(tracker, outputs):
    folder = make_run(outputs, "key", "s", record=False)
    Record("key", 1, "s", {}, Outcome.LOST).write(folder)
    parent = opened(tracker, outputs)
    tracker.publish(folder, parent)
    Record("key", 1, "s", {}, Outcome.OK, "helps").write(folder)
    tracker.publish(folder, parent)
    assert [run.data.tags["outcome"] for run in runs(tracker)] == ["ok"]


def test_the_sweeps_numbers_follow_a_run_that_comes_home(tracker, outputs):
    late = make_run(outputs, "late", "s", record=False)
    Record("late", 1, "s", {}, Outcome.LOST, finished_at="2026-01-02T03:04:10+00:00").write(late)
    manifest = make_sweep(outputs, "s", [make_run(outputs, "last", "s"), late])
    parent = opened(tracker, outputs)
    tracker.close_sweep(parent, sweep_folder(outputs, "s"))
    assert tracker.client.get_run(parent).data.metrics["sweep/lost"] == 1
    Record("late", 1, "s", {}, Outcome.OK, "hurts", finished_at="2026-01-02T03:04:20+00:00").write(late)
    tracker.close_sweep(parent, sweep_folder(outputs, manifest.sweep))
    found = tracker.client.get_run(parent).data.metrics
    assert (found["sweep/lost"], found["sweep/hurts"]) == (0, 1)


def test_two_people_who_measured_the_same_keep_a_run_each(tracker, outputs, tmp_path):
    made = {}
    for who, speedup in (("ann", 1.2), ("bob", 0.9)):
        folder = make_run(tmp_path / who, "key", f"sweep-of-{who}", speedup=speedup)
        record = read_record(folder / "record.json")
        record.finished_at = f"2026-01-02T03:05:0{len(made)}+00:00"
        record.write(folder)
        made[who] = tracker.publish(folder, opened(tracker, tmp_path / who, record.sweep))
    assert {run.info.run_id for run in runs(tracker)} == {*made.values()}
    assert len(made) == len({*made.values()})


def test_a_doubled_creation_leaves_one_run(tracker, outputs, monkeypatch):
    create = tracker.client.create_run

    def answer_lost(*args):
        create(*args)
        return create(*args)

    monkeypatch.setattr(tracker.client, "create_run", answer_lost)
    folder = make_run(outputs, "key", "s")
    run_id = tracker.publish(folder, opened(tracker, outputs))
    assert [run.info.run_id for run in runs(tracker)] == [run_id]
    assert len(runs(tracker, "tags.kind = 'sweep'")) == 1


def test_what_breaks_half_way_is_not_published(tracker, outputs, monkeypatch):
    folder = make_run(outputs, "key", "s")
    parent = opened(tracker, outputs)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, "log_artifact", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(
            TrackingError, match=r"disk full; what was measured is kept on disk, .*src\.collect"
        ):
            tracker.publish(folder, parent)
    assert not tracker.is_published(folder, read_record(folder / "record.json"))
    assert runs(tracker, "tags.published = '1'") == []
    tracker.publish(folder, parent)
    [run] = runs(tracker)
    assert run.data.tags["published"] == "1"
    assert len(history(tracker, run.info.run_id, "rounds/speedup")) == 60


def test_unreadable_rounds_are_this_runs_trouble_alone(tracker, outputs):
    folder = make_run(outputs, "key", "s")
    (folder / "rounds.json").write_text("{")
    with pytest.raises(UnpublishableError, match=r"rounds\.json"):
        tracker.publish(folder, opened(tracker, outputs))


def refused(conf: TrackingConf) -> str:
    """In seconds, on a busy machine some more; MLflow alone waits for 246."""
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        open_tracker(conf)
    assert time.monotonic() - started < 100
    text = str(caught.value)
    assert "\n" not in text
    assert "python -m src.collect" in text
    return text


def test_a_server_that_is_down_is_noticed_at_once():
    text = refused(TrackingConf("server", True, f"http://127.0.0.1:{free_port()}"))
    assert "Connection refused" in text


def test_a_server_that_says_nothing_is_noticed():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = refused(TrackingConf("server", True, f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert "timed out" in text


def test_a_corrupt_database_is_told(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    assert "file is not a database" in refused(local(tmp_path))


def test_a_read_only_database_is_told_before_mlflow_does(tracker, outputs, monkeypatch, capfd):
    def read_only(path: Path, **given: object) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **given)  # root may write any file

    connect = sqlite3.connect
    monkeypatch.setattr("src.records.mlflow.connection.sqlite3.connect", read_only)
    text = refused(replace(local(outputs), experiment="another"))
    assert "attempt to write a readonly database; make the file and its folder writable" in text
    assert capfd.readouterr().err == ""


def test_where_no_file_can_be_locked_what_a_dead_process_left_stops_nobody(outputs, monkeypatch):
    """Lustre without flock, many FUSE file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("src.records.mlflow.connection._OPEN_S", 5.0)
    monkeypatch.setattr("src.records.mlflow.tracking._LOCK_S", 1.0)
    folder = make_run(outputs, "key", "s")
    for lock in (
        outputs / "mlflow.db.lock",
        folder / ".publishing.lock",
        outputs / "sweeps/s/.publishing.lock",
    ):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    tracker = open_tracker(local(outputs))
    assert tracker.publish(folder, opened(tracker, outputs))


def test_a_folder_that_another_process_publishes_is_waited_for_and_named(tracker, outputs, monkeypatch):
    monkeypatch.setattr("src.records.mlflow.tracking._LOCK_S", 0.2)
    folder, parent = make_run(outputs, "key", "s"), opened(tracker, outputs)
    with (
        locked(folder / ".publishing.lock", 0),
        pytest.raises(TrackingError, match=r"held .*publishing\.lock"),
    ):
        tracker.publish(folder, parent)
    assert tracker.publish(folder, parent)


def test_a_locked_database_is_told(tracker, outputs):
    folder = make_run(outputs, "key", "s")
    parent = opened(tracker, outputs)
    holder = sqlite3.connect(outputs / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TrackingError, match="database is locked"):
        tracker.publish(folder, parent)
    probe(tracker.connection.uri, busy=True)  # for who will wait
    holder.rollback()
    tracker.publish(folder, parent)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    refused(local(tmp_path / "file" / "outputs"))


def test_a_deleted_experiment_is_told_with_the_remedy(tracker, outputs):
    tracker.client.delete_experiment(tracker.connection.experiment_id)
    assert "experiments restore" in refused(local(outputs))


def test_a_new_database_gets_everything_again(tracker, outputs, empty_database):
    [folder] = published_sweep(tracker, outputs, 1)
    elsewhere = replace(local(outputs), experiment="other")
    assert not open_tracker(elsewhere).is_published(folder, read_record(folder / "record.json"))


def test_tracking_off_is_told():
    with pytest.raises(TrackingError, match="tracking=none publishes nothing"):
        open_tracker(TrackingConf("none", False, ""))


def test_importing_costs_nothing():
    look = "print([m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules])"
    script = f"import sys, src.records.mlflow.tracking; {look}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_password_is_not_repeated():
    port = free_port()
    text = refused(TrackingConf("server", True, f"http://me:secret@127.0.0.1:{port}"))
    assert f"http://127.0.0.1:{port}" in text
    assert "secret" not in text


@pytest.mark.parametrize("target", ["denoiser", "pipeline"])
def test_a_models_pipeline_is_a_parameter_only_of_its_own_runs(tmp_path, target):
    (tmp_path / "config.yaml").write_text("model: {factory: {layers: 2}, pipeline: {steps: 4}}")
    found = settings(Record("key", 1, "sweep", {"target": target}), tmp_path)
    assert found["model.factory.layers"] == "2"
    assert ("model.pipeline.steps" in found) == (target == "pipeline")


def test_mlflow_may_be_installed_below_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "/50% off/mlflow/store/db_migrations"
    monkeypatch.setattr(Config, "set_main_option", Config.set_main_option)
    monkeypatch.setattr("mlflow.__file__", "/50% off/mlflow/__init__.py")
    mend_folder()
    mend_folder()
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", "sqlite:////50%% off/mlflow.db")  # this MLflow escapes itself
    assert config.get_main_option("script_location") == folder
    assert config.get_main_option("sqlalchemy.url") == "sqlite:////50% off/mlflow.db"


def test_the_command_that_is_printed_calls_mlflow_by_a_path_without_a_percent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's server starts further Pythons, which nobody mends."""
    place = tmp_path / "100% mine"
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").write_text('#!/bin/sh\necho "$0" "$@"\n')
    (place / "bin" / "python").chmod(0o755)
    monkeypatch.setattr("sys.prefix", str(place))
    monkeypatch.setattr(
        "src.records.mlflow.view.find_spec", lambda _: Mock(origin=f"{place}/mlflow/__init__.py")
    )
    told = subprocess.run(
        ["sh", "-c", ui_command("sqlite:///my db")], capture_output=True, text=True, check=True
    )
    python, *arguments = told.stdout.strip().partition(" -m ")
    assert "%" not in python
    assert Path(python).samefile(place / "bin" / "python")
    assert arguments[-1] == "mlflow ui --workers 1 --backend-store-uri sqlite:///my db"
    shutil.rmtree(Path(python).parents[2], ignore_errors=True)
