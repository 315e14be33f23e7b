"""Bookkeeping: what a dead driver or an unreachable tracker left open."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from src.collect import collect, main
from src.config.errors import ConfigError
from src.config.schema.root import CollectConf, TrackingConf
from src.jobs.followed import Patience
from src.records.mlflow.tracking import open_tracker
from src.records.record import Outcome, read_record
from tests.records.run_folders import free_port, local, make_run, make_sweep


def run_collect(
    outputs: Path, tracking: TrackingConf | None = None, sweep: str | None = None, **asked: Any
) -> tuple[int, str]:
    console = Console(record=True, width=1000, quiet=False, file=(outputs.parent / "printed").open("w"))
    hasty = Patience(poll_s=0.05, late_s=0.2, unknown_s=0.2, end_s=5.0)
    status = collect(CollectConf(tracking or local(outputs), sweep, str(outputs), **asked), console, hasty)
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
    with pytest.raises(ConfigError, match="no such folder"):
        run_collect(outputs / "typo")


def test_the_parent_of_a_sweep_whose_runs_another_one_lists_is_its_own(outputs):
    """B skipped what A had measured and not published; only B is collected."""
    [folder] = [make_run(outputs, "key", "A")]
    asked = make_sweep(outputs, "A", [folder], dead=True).command
    later = make_sweep(outputs, "B", [folder], dead=True)
    later.runs[0]["skipped"] = True
    later.command = ["another"]
    later.write(outputs)
    assert run_collect(outputs, sweep="B")[0] == 0
    tracker = open_tracker(local(outputs))
    [parent] = tracker.client.search_runs(
        [tracker.connection.experiment_id], "tags.kind = 'sweep' and tags.sweep = 'A'"
    )
    assert shlex.join(asked) in " ".join([*parent.data.tags.values(), *parent.data.params.values()])


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
    assert "2 runs left no record and have one now: 2 lost" in text
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


@pytest.mark.parametrize("backend", ["", "submitit_local"])
def test_a_sweep_whose_machine_is_gone_is_given_up_when_that_is_said(outputs, backend):
    folders = [make_run(outputs, f"key{i}", "s", record=i == 0) for i in range(3)]
    manifest = make_sweep(outputs, "s", folders)
    manifest.driver["host"], manifest.backend = "a-node-that-was", backend
    if backend:  # its jobs were that machine's too
        manifest.runs[1]["job"] = manifest.runs[1]["array"] = "qp-s-0"
    manifest.write(outputs)
    status, text = run_collect(outputs)
    assert (status, outcomes(outputs)) == (0, ["ok"])
    assert f"process {os.getpid()} on a-node-that-was cannot be asked from here" in text
    assert "sweep=s" in text
    assert "lost=true" in text
    status, text = run_collect(outputs, sweep="s", lost=True)
    assert status == 0
    assert "2 runs left no record and have one now: 2 lost" in text
    assert read_record(folders[1] / "record.json").outcome is Outcome.LOST
    assert outcomes(outputs) == ["lost", "lost", "ok"]
    assert run_collect(outputs, sweep="s", lost=True) == (0, "0 published, 3 already there, 0 unreadable\n")


@pytest.mark.parametrize(
    ("backend", "said"), [("", "lives and runs it"), ("slurm", "SLURM has its jobs and is asked about them")]
)
def test_a_sweep_that_somebody_can_be_asked_about_is_not_given_up(outputs, backend, said):
    folder = make_run(outputs, "key", "s", record=False)
    manifest = make_sweep(outputs, "s", [folder])
    manifest.backend = backend
    manifest.write(outputs)
    with pytest.raises(ConfigError, match=said):
        run_collect(outputs, sweep="s", lost=True)
    assert not (folder / "record.json").exists()


RUNNING = f"{'17':64}{'RUNNING':24}{'0:0':16}{'0':12}{'h100-1':128}{'None':256}"
CANCELLED = f"{'17':64}{'CANCELLED':24}{'0:0':16}{'0':12}{'':128}{'None':256}"
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
NO_SACCT = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """slurm(squeue=..., ...): commands of that name do what these lines of shell say."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def answers(**commands: str) -> None:
        for name, lines in ({"sacct": NO_SACCT} | commands).items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
            (tmp_path / "bin" / name).chmod(0o755)

    return answers


def cluster_sweep(outputs: Path) -> Path:
    """A run whose driver is dead, as a job; returns its folder."""
    manifest = make_sweep(outputs, "s", [], dead=True)
    manifest.backend = "slurm"
    folder = make_run(outputs, "key", "s", record=False)
    manifest.add("key", 1, skipped=False, job="17")
    manifest.write(outputs)
    return folder


@pytest.mark.parametrize(
    ("squeue", "found", "said"),
    [
        (f"echo '{RUNNING}'", [], "sweep s goes on: 1 running (h100-1)"),
        (UNKNOWN, ["lost"], "1 run left no record and has one now: 1 lost"),
        ("exit 1", [], "sweep s goes on: 1 run, and nobody here can be asked"),
        (f"echo '{CANCELLED}'", ["killed"], "1 killed"),
    ],
)
def test_the_cluster_is_asked_for_its_jobs(outputs, slurm, squeue, found, said):
    slurm(squeue=squeue)
    cluster_sweep(outputs)
    status, text = run_collect(outputs)
    assert status == 0
    assert said in text
    assert outcomes(outputs) == found


def test_a_sweep_is_watched_to_its_end(outputs, slurm):
    slurm(squeue=UNKNOWN)
    cluster_sweep(outputs)
    status, text = run_collect(outputs, sweep="s", watch=True)
    assert status == 1  # of that sweep: a lost run is no finding
    assert "sweep s: 1 lost" in text
    assert outcomes(outputs) == ["lost"]


def test_a_sweep_is_cancelled(outputs, tmp_path, slurm):
    state = tmp_path / "state"
    state.write_text(RUNNING + "\n")
    slurm(squeue=f"cat {state}", scancel=f"echo \"$@\" > {tmp_path}/called; echo '{CANCELLED}' > {state}")
    folder = cluster_sweep(outputs)
    status, text = run_collect(outputs, sweep="s", cancel=True)
    assert status == 0, text
    assert (tmp_path / "called").read_text() == "17\n"
    assert read_record(folder / "record.json").reason == "cancelled by src.collect"
    assert outcomes(outputs) == ["killed"]


def test_only_a_sweep_on_a_cluster_is_watched_or_cancelled(outputs):
    make_sweep(outputs, "s", [make_run(outputs, "key", "s")])
    for asked in ({"watch": True}, {"cancel": True}):
        with pytest.raises(ConfigError, match="not sent to a cluster"):
            run_collect(outputs, sweep="s", **asked)
        with pytest.raises(ConfigError, match="no such sweep"):
            run_collect(outputs, sweep="s3", **asked)


def test_the_command_line(outputs, monkeypatch, capsys):
    make_sweep(outputs, "s", [make_run(outputs, "key", "s")], dead=True)
    command = [sys.executable, "-m", "src.collect", f"outputs={outputs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 published, 0 already there, 0 unreadable\n"), done.stderr
    for arguments in (
        ["sweep=none"],
        ["--watch"],
        ["cancel=true"],
        ["lost=true"],
        ["sweep=s", "--watch", "cancel=true"],
        ["sweep=s", "cancel=true", "lost=true"],
    ):
        monkeypatch.setattr(sys, "argv", ["collect.py", f"outputs={outputs}", *arguments])
        assert main() == 2
        assert capsys.readouterr().err.count("\n") == 1
