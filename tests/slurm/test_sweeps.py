"""Sweeps on a real cluster: what lands where, what survives, what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.config.paths import override
from src.jobs.outputs_lock import LOCK_NAME
from tests.conftest import Called
from tests.slurm.cluster import Cluster
from tests.waiting import until

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "tests" / "slurm" / "conf"
CHEAP = (
    "model=linear",
    "model.dims={M:4,K:64,N:64}",
    "dtype=bfloat16",
    "compile=none",
    "tracking=none",
    "task=seen",
)
LAUNCHER = ("hydra/launcher=slurm", "hydra.launcher.array_parallelism=4", "hydra.launcher.poll_s=0.5")


def command(outputs: Path, *overrides: str) -> list[str]:
    python = [sys.executable, "-m", "src.run", "--config-dir", str(CONF), "-m"]
    return [*python, *CHEAP, *LAUNCHER, override("outputs", outputs), *overrides]


def sweep(
    cluster: Cluster, outputs: Path, *overrides: str, cwd: Path = ROOT, timeout_s: float = 200, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(outputs, *overrides),
        env=cluster.env | environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def records(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(outputs.glob("runs/*/*/record.json"))]


def folders(outputs: Path) -> list[Path]:
    return sorted(outputs.glob("runs/*/*"))


def manifest(outputs: Path) -> dict[str, Any]:
    """Of the newest sweep."""
    path = max(outputs.glob("sweeps/*/sweep.json"), key=lambda path: path.stat().st_mtime)
    return dict(json.loads(path.read_text()))


def jobs_of(cluster: Cluster, outputs: Path) -> list[str]:
    """Every task that SLURM remembers of the sweeps under `outputs`, one id each."""
    manifests = [json.loads(path.read_text()) for path in outputs.glob("sweeps/*/sweep.json")]
    names = {run["array"] for each in manifests for run in each["runs"] if "array" in run}
    known = ("--array", "--states=all", f"--name={','.join(names)}")
    queue = cluster.call("squeue", "--noheader", *known, "--format=%i")
    return queue.split()


def test_the_gpu_axis_lands_on_the_right_nodes_with_the_right_devices(
    cluster: Cluster, tmp_path: Path
) -> None:
    """From a folder, and with a TMPDIR, as people have them: the latter is too long for a socket."""
    outputs = tmp_path / "My Projects" / "größe #1 100%"
    temporary = tmp_path / ("long " * 20)
    temporary.mkdir()
    done = sweep(cluster, outputs, "gpu=h100,a100", "seed=1,2", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    found = records(outputs)
    assert Counter(record["axes"]["gpu"] for record in found) == {"h100": 2, "a100": 2}
    assert len(list(outputs.glob("sweeps/*/slurm/*_0_log.out"))) == 4
    snapshot = next(outputs.glob("sweeps/*/snapshot"))
    for record in found:
        gpu, seen = record["axes"]["gpu"], record["details"]["seen"]
        assert seen["SLURM_JOB_PARTITION"] == gpu
        assert seen["SLURMD_NODENAME"].startswith(gpu)
        assert seen["CUDA_VISIBLE_DEVICES"] in ("0", "1")
        assert seen["cwd"] == str(snapshot)
        assert seen["TMPDIR"] == str(temporary)
        assert (
            record["environment"]["snapshot"]
            == json.loads((snapshot / "snapshot.json").read_text())["snapshot"]
        )
        assert record["environment"]["slurm_job_id"]
        assert record["device"]["name"] == f"made-up {gpu}"
    runs = manifest(outputs)["runs"]
    assert len({run["job"] for run in runs}) == 4
    assert len({run["array"] for run in runs}) == 2


def test_an_edit_after_submission_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    checkout, outputs = tmp_path / "checkout", tmp_path / "outputs"
    for part in ("src", "hydra_plugins", "conf", "sweeps", "tests/slurm"):
        shutil.copytree(ROOT / part, checkout / part, symlinks=True)
    (checkout / "tests" / "__init__.py").touch()
    held = ("gpu=h100", "+gpu.slurm.extra={hold: true}", "hydra.launcher.wait=false")
    done = sweep(cluster, outputs, *held, cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert manifest(outputs)["sweep"] in done.stdout + done.stderr
    for file in checkout.glob("src/**/*.py"):
        file.write_text("raise SystemExit('edited')\n")
    shutil.rmtree(checkout / "conf")
    cluster.call("scontrol", "release", manifest(outputs)["runs"][0]["job"])
    until(lambda: records(outputs))
    assert [record["outcome"] for record in records(outputs)] == ["ok"]


def test_a_job_that_imports_other_code_than_the_snapshot_is_no_result(
    cluster: Cluster, tmp_path: Path
) -> None:
    done = sweep(cluster, tmp_path, "gpu=h100", f"gpu.slurm.setup=['cd {ROOT}']")
    assert done.returncode == 1, done.stderr
    [record] = records(tmp_path)
    assert record["outcome"] == "failed"
    assert f"imported {ROOT}, which is not the sweep's snapshot" in record["reason"]


def test_a_driver_killed_between_sbatch_and_its_answer_loses_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The array is in the queue, its id was never written: it is found by its name."""
    real = shutil.which("sbatch", path=cluster.env["PATH"])
    (tmp_path / "bin").mkdir()
    deadly = tmp_path / "bin" / "sbatch"
    deadly.write_text(f'#!/bin/sh\n{real} "$@"\nkill -9 $PPID\n')
    deadly.chmod(0o755)
    sent = ("gpu=h100", "seed=1,2", "task=sleep", "measure.budget_s=8")
    outputs = tmp_path / "outputs"
    env = cluster.env | {"PATH": f"{deadly.parent}:{cluster.env['PATH']}"}
    killed = subprocess.run(command(outputs, *sent), env=env, cwd=ROOT, capture_output=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert not any("job" in run for run in manifest(outputs)["runs"])
    again = sweep(cluster, outputs, *sent)
    assert again.returncode == 0, again.stderr
    assert len(jobs_of(cluster, outputs)) == 2
    assert Counter(record["outcome"] for record in records(outputs)) == {"ok": 2}


def test_a_driver_killed_while_it_waits_is_followed_by_the_same_command(
    cluster: Cluster, tmp_path: Path
) -> None:
    sent = ("gpu=h100,a100", "task=sleep", "measure.budget_s=12")
    driver = subprocess.Popen(command(tmp_path, *sent), env=cluster.env, cwd=ROOT, stderr=subprocess.DEVNULL)
    until(
        lambda: (
            list(tmp_path.glob("sweeps/*/sweep.json")) and all("job" in r for r in manifest(tmp_path)["runs"])
        )
    )
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    again = sweep(cluster, tmp_path, *sent)
    assert again.returncode == 0, again.stderr
    assert len(jobs_of(cluster, tmp_path)) == 2
    assert {folder.name for folder in folders(tmp_path)} == {"001"}
    assert [record["outcome"] for record in records(tmp_path)] == ["ok"] * 2


def test_whoever_does_not_wait_collects_later(cluster: Cluster, tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    done = sweep(cluster, tmp_path, "gpu=h100", "seed=1,2", "tracking=sqlite", "hydra.launcher.wait=false")
    assert done.returncode == 0, done.stderr
    assert f"sweep={manifest(tmp_path)['sweep']}" in done.stdout + done.stderr
    until(lambda: len(records(tmp_path)) == 2)
    collect = [
        sys.executable,
        "-m",
        "src.collect",
        f"outputs={tmp_path}",
        f"sweep={manifest(tmp_path)['sweep']}",
    ]
    collected = subprocess.run(
        collect, env=cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert "2 published" in collected.stdout


REFUSED = {
    "gpu=nowhere": ["gpu.slurm.partition=nowhere"],
    "gpu=too_many": ["gpu.slurm"],
    "hydra.launcher.account=nobody": ["account=nobody"],
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_slurm_refuses_is_one_line_and_leaves_nothing(
    cluster: Cluster, tmp_path: Path, called: Callable[..., Called], override: str
) -> None:
    with cluster.here():
        done = called(*command(tmp_path, "gpu=h100", override)[3:])
    assert done.status == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.splitlines()[-1] == line
    for word in REFUSED[override]:
        assert word in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_NAME]


def test_a_group_refused_after_another_was_sent_is_recorded(cluster: Cluster, tmp_path: Path) -> None:
    done = sweep(cluster, tmp_path, "gpu=a100,nowhere")
    assert done.returncode == 1, done.stderr
    by_gpu = {record["axes"]["gpu"]: record for record in records(tmp_path)}
    assert by_gpu["a100"]["outcome"] == "ok"
    assert by_gpu["h100"]["outcome"] == "failed"
    assert "nowhere" in by_gpu["h100"]["reason"]


def test_a_driver_inside_a_job_sends_jobs_of_their_own(cluster: Cluster, tmp_path: Path) -> None:
    """Its own job's SLURM_* would be options of what it sends, and contradict them."""
    inside = [
        "srun",
        "--partition=a100",
        "--mem-per-cpu=500",
        "--job-name=driver",
        *command(tmp_path, "gpu=h100"),
    ]
    done = subprocess.run(inside, env=cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    [record] = records(tmp_path)
    assert record["outcome"] == "ok"
    assert record["details"]["seen"]["SLURMD_NODENAME"].startswith("h100")


def test_outputs_that_the_nodes_do_not_see_are_said(cluster: Cluster, tmp_path: Path) -> None:
    """The folder is away when the job starts, as one on this machine's own disk would be."""
    here, away = tmp_path / "outputs", tmp_path / "away"
    held = ("gpu=h100", "+gpu.slurm.extra={hold: true}", "hydra.launcher.wait=false")
    done = sweep(cluster, here, *held)
    assert done.returncode == 0, done.stderr
    job = manifest(here)["runs"][0]["job"]
    here.rename(away)
    cluster.call("scontrol", "release", job)
    until(lambda: not cluster.call("squeue", "--noheader", f"--jobs={job}", "--states=PD,R,CG").strip())
    away.rename(here)
    collect = [sys.executable, "-m", "src.collect", f"outputs={here}", "tracking=none"]
    subprocess.run(collect, env=cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=200)
    [record] = records(here)
    assert record["outcome"] in ("killed", "failed")
    assert "file system that the nodes share" in record["remedy"]


def test_a_real_measurement(cluster: Cluster, tmp_path: Path) -> None:
    real = ("gpu=node_cpu", "quant=int8wo", "task=latency", "measure.ceilings=false")
    short = ("measure.budget_s=1", "measure.min_pairs=8")
    fixed = [part for part in CHEAP if not part.startswith("task")]
    arguments = [*fixed, *LAUNCHER, *real, *short, f"outputs={tmp_path}"]
    line = [sys.executable, "-m", "src.run", "--config-dir", str(CONF), *arguments]
    done = subprocess.run(line, env=cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    [record] = records(tmp_path)
    assert record["outcome"] == "ok"
    assert record["metrics"]["quality/sqnr_db"] > 20
    assert record["environment"]["slurm_job_partition"] == "all"
