"""Bookkeeping: what a dead driver or an unreachable tracker left open."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import free_port, local, make_run, make_sweep

from src.collect import collect
from src.config.errors import ConfigError
from src.config.schema import CollectConf, TrackingConf
from src.records.record import Outcome, read_record
from src.records.tracking import open_tracker


def run_collect(
    outputs: Path, tracking: TrackingConf | None = None, sweep: str | None = None
) -> tuple[int, str]:
    console = Console(record=True, width=1000, quiet=False, file=(outputs.parent / "printed").open("w"))
    status = collect(CollectConf(tracking or local(outputs), sweep, str(outputs)), console)
    return status, console.export_text()


def outcomes(outputs: Path) -> list[str]:
    tracker = open_tracker(local(outputs))
    found = tracker.client.search_runs([tracker.connection.experiment_id], "tags.published = '1'")
    return sorted(run.data.tags["outcome"] for run in found)


def test_nothing_is_fine(outputs):
    assert run_collect(outputs) == (0, "0 published, 0 already there, 0 unreadable\n")


def test_everything_is_published_once(outputs):
    folders = [make_run(outputs, f"key{i}", "s") for i in range(3)]
    make_sweep(outputs, "s", folders, dead=True)
    make_run(outputs, "orphan", "no-manifest")
    assert run_collect(outputs) == (0, "4 published, 0 already there, 0 unreadable\n")
    assert run_collect(outputs) == (0, "0 published, 4 already there, 0 unreadable\n")
    tracker = open_tracker(local(outputs))
    parents = tracker.client.search_runs([tracker.connection.experiment_id], "tags.kind = 'sweep'")
    status = {run.data.tags["sweep"]: run.info.status for run in parents}
    assert status["s"] == "FINISHED"


def test_only_one_sweep_when_asked(outputs):
    for sweep in ("s1", "s2"):
        make_sweep(outputs, sweep, [make_run(outputs, f"key-{sweep}", sweep)], dead=True)
    assert run_collect(outputs, sweep="s2") == (0, "1 published, 0 already there, 0 unreadable\n")
    with pytest.raises(ConfigError, match="sweep=s3"):
        run_collect(outputs, sweep="s3")


def test_after_the_server_was_down_collect_publishes(outputs):
    make_sweep(outputs, "s", [make_run(outputs, "key", "s")], dead=True)
    status, text = run_collect(outputs, TrackingConf("server", True, f"http://127.0.0.1:{free_port()}"))
    assert status == 1
    assert "Connection refused" in text
    assert "1 still to publish" in text
    assert run_collect(outputs) == (0, "1 published, 0 already there, 0 unreadable\n")


def test_unreadable_files_do_not_stop_the_others(outputs):
    folders = [make_run(outputs, f"key{i}", "s") for i in range(4)]
    make_sweep(outputs, "s", folders, dead=True)
    (folders[0] / "record.json").write_text('{"schema')
    newer = json.loads((folders[1] / "record.json").read_text()) | {"schema_version": 99}
    (folders[1] / "record.json").write_text(json.dumps(newer))
    (folders[2] / "rounds.json").write_text("[]")
    (outputs / "sweeps" / "bad").mkdir()
    (outputs / "sweeps" / "bad" / "sweep.json").write_text("{")
    status, text = run_collect(outputs)
    assert status == 1
    for path in (folders[0] / "record.json", folders[1] / "record.json", folders[2] / "rounds.json"):
        assert text.count(str(path)) == 1
    assert "update quantpay" in text
    assert "1 published, 0 already there, 4 unreadable, 1 still to publish" in text
    assert outcomes(outputs) == ["ok"]


def test_runs_of_a_dead_driver_are_lost(outputs):
    folders = [make_run(outputs, f"key{i}", "s", record=i == 0) for i in range(3)]
    make_sweep(outputs, "s", folders, dead=True)
    status, text = run_collect(outputs)
    assert status == 0
    assert "2 runs are lost" in text
    record = read_record(folders[1] / "record.json")
    assert (record.outcome, record.axes["quant"], record.axes["batch"]) == (Outcome.LOST, "int8wo", 1)
    assert "driver" in record.reason
    assert outcomes(outputs) == ["lost", "lost", "ok"]


def test_runs_of_a_living_driver_are_left_alone(outputs):
    folders = [make_run(outputs, f"key{i}", "s", record=i == 0) for i in range(2)]
    make_sweep(outputs, "s", folders)
    assert run_collect(outputs) == (0, "1 published, 0 already there, 0 unreadable\n")
    assert not (folders[1] / "record.json").exists()
    tracker = open_tracker(local(outputs))
    [parent] = tracker.client.search_runs([tracker.connection.experiment_id], "tags.kind = 'sweep'")
    assert parent.info.status == "RUNNING"


@pytest.mark.parametrize(("squeue", "lost"), [("echo RUNNING", 0), ("exit 0", 1), ("exit 1", 0)])
def test_a_cluster_job_is_asked_for(outputs, tmp_path, monkeypatch, squeue, lost):
    manifest = make_sweep(outputs, "s", [], dead=True)
    manifest.add(make_run(outputs, "key", "s", record=False).parent.name, 1, skipped=False, job="17")
    manifest.write(outputs)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\n{squeue}\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    run_collect(outputs)
    assert len(outcomes(outputs)) == lost


def test_the_command_line(outputs):
    make_sweep(outputs, "s", [make_run(outputs, "key", "s")], dead=True)
    command = [sys.executable, "-m", "src.collect", f"outputs={outputs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 published, 0 already there, 0 unreadable\n"), done.stderr
    wrong = subprocess.run([*command, "sweep=none"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
