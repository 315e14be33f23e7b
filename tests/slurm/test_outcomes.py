"""One sweep on a real cluster in which everything goes wrong: each run has its outcome, the others their result."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from src.config.schema.cluster import ClusterConf, SlurmRequest
from src.config.schema.root import GpuConf, RootConf, TaskConf
from src.jobs.sweep import run_on_cluster
from src.records.record import Record, read_record
from src.records.store import SweepManifest, read_manifest
from src.run import execute
from src.slurm.backend import SlurmBackend
from tests.slurm.cluster import Cluster
from tests.slurm.waiting import sbatch, wait_for
from tests.waiting import until

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
OTHER_ENDS_S = 400.0
RESULT = {f"seen-{number}": "ok" for number in range(2)}
SEEN, RAISES, KILLS_ITSELF, KILLS_ITS_JOB, SLEEPS = range(5)  # of tests.slurm.stubs.by_seed

Compose = Callable[..., RootConf]


def run(
    compose: Compose, outputs: Path, seed: int, name: str, *, task: str = "by_seed", **request: Any
) -> RootConf:
    """A run named by its model; seeds are fates."""
    cfg = compose(f"seed={seed}", "measure.budget_s=300", "measure.timeout_s=600", f"model.name={name}")
    kind = "a100" if request.get("partition") == "a100" else "h100"
    asked = SlurmRequest(
        **({"partition": kind, "gres": f"gpu:{kind}:1", "cpus_per_task": 1, "mem_gib": 1} | request)
    )
    gpu = GpuConf(kind, _target_="tests.slurm.stubs.StubDevice", slurm=asked)
    return replace(
        cfg, gpu=gpu, task=TaskConf("stub", f"tests.slurm.stubs.{task}", compares=False), outputs=str(outputs)
    )


class Sent:
    """A sweep that is sent and followed in a thread of this process."""

    def __init__(self, cluster: Cluster, configs: list[RootConf], conf: ClusterConf) -> None:
        self.cluster, self.outputs = cluster, Path(configs[0].outputs)
        self.names = [cfg.model.name for cfg in configs]
        self.statuses: list[int] = []
        backend = SlurmBackend(conf.array_parallelism, conf.max_num_timeout)
        self.thread = Thread(
            target=lambda: self.statuses.extend(run_on_cluster(configs, conf, backend, execute)), daemon=True
        )
        self.thread.start()
        until(lambda: self.manifest and all("job" in entry for entry in self.manifest.runs), 240)
        manifest = self.manifest
        assert manifest is not None
        self.job = {name: str(entry["job"]) for name, entry in zip(self.names, manifest.runs, strict=True)}
        self.folder = dict(zip(self.names, manifest.folders(self.outputs), strict=True))

    @property
    def manifest(self) -> SweepManifest | None:
        found = list(self.outputs.glob("sweeps/*/sweep.json"))
        return read_manifest(found[0]) if found else None

    def node_of(self, name: str) -> str:
        """The node on which a run's own process is seen to be on."""
        until(lambda: "sleeping" in self.output(name), 240)
        return wait_for(self.cluster, [self.job[name]], lambda state: state.state == "RUNNING")[
            self.job[name]
        ].node

    def output(self, name: str) -> str:
        [log] = self.outputs.glob("sweeps/*/slurm")
        out = log / f"{self.job[name]}_0_log.out"
        return out.read_text() if out.exists() else ""

    def records(self) -> dict[str, Record]:
        self.thread.join(OTHER_ENDS_S)
        assert not self.thread.is_alive(), "it is followed for ever"
        return {name: read_record(folder / "record.json") for name, folder in self.folder.items()}


def launcher(**keys: Any) -> ClusterConf:
    return ClusterConf(array_parallelism=4, poll_s=1.0, **keys)


def test_whatever_happens_every_run_has_its_outcome(
    cluster: Cluster, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    first, second = {"extra": {"nodelist": "h100-1"}}, {"extra": {"nodelist": "h100-2"}}

    def made(seed: int, name: str, **request: Any) -> RootConf:
        return run(compose, tmp_path, seed, name, **request)

    configs = [
        made(SEEN, "seen-0", **first),
        made(RAISES, "raising", **first),
        made(KILLS_ITSELF, "killing-itself", **first),
        made(KILLS_ITS_JOB, "killing-its-job", **first),
        made(SLEEPS, "over-its-time", time_min=1, **first),
        made(SLEEPS, "preempted", task="sleep_at_first", **(second | {"partition": "low"})),
        made(SLEEPS, "cut", task="sleep_at_first", partition="a100"),
        made(SEEN, "seen-1", partition="a100", time_min=5),
        made(SEEN, "held", partition="a100", extra={"hold": True}),
    ]
    with cluster.here():
        sent = Sent(cluster, configs, launcher(max_num_timeout=1))
        cluster.call("scancel", sent.job["held"])
        node = sent.node_of("cut")
        cluster.kill_node(node)
        try:
            assert sent.node_of("preempted") == "h100-2"
            winner = sbatch(
                cluster,
                "sleep 1",
                "--partition=high",
                "--nodelist=h100-2",
                "--gres=gpu:h100:2",
                "--exclusive",
            )
            found = sent.records()
        finally:
            cluster.start_node(node)
        wait_for(cluster, [winner])
    outcomes = {name: str(record.outcome) for name, record in found.items()}
    reasons = {name: record.reason for name, record in found.items()}
    assert outcomes == RESULT | {
        "raising": "failed",
        "killing-itself": "killed",
        "killing-its-job": "killed",
        "over-its-time": "timeout",
        "preempted": "ok",
        "cut": "ok",
        "held": "killed",
    }, reasons
    assert sent.statuses == [0 if outcome == "ok" else 1 for outcome in outcomes.values()]
    assert "ZeroDivisionError" in reasons["raising"]
    assert "SIGKILL" in reasons["killing-itself"]
    assert sent.job["killing-its-job"] in reasons["killing-its-job"]
    assert "cancelled" in reasons["held"]
    restarts = {name: record.details.get("restarts", {}) for name, record in found.items()}
    if "its time limit was near before the run had begun" not in reasons["over-its-time"]:  # a busy machine
        assert "SIGUSR2" in restarts["over-its-time"]["reasons"][0]
        assert restarts["over-its-time"]["number"] == 1
    assert restarts["cut"]["number"] == 1
    assert "node" in restarts["cut"]["reasons"][0]
    assert "SIGTERM" in restarts["preempted"]["reasons"][0]
    assert found["cut"].details["seen"]["SLURMD_NODENAME"] != node
    assert {len(list(folder.glob("record.json"))) for folder in sent.folder.values()} == {1}


def test_without_accounting(
    cluster_without_accounting: Cluster, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    cluster = cluster_without_accounting
    configs = [
        run(compose, tmp_path, SEEN, "seen-0"),
        run(compose, tmp_path, KILLS_ITS_JOB, "killing-its-job"),
        run(compose, tmp_path, SLEEPS, "cancelled", partition="a100", time_min=5),
        run(compose, tmp_path, SEEN, "held", partition="a100", extra={"hold": True}),
    ]
    with cluster.here():
        sent = Sent(cluster, configs, launcher())
        sent.node_of("cancelled")
        cluster.call("scancel", sent.job["held"], sent.job["cancelled"])
        found = sent.records()
    assert {name: str(record.outcome) for name, record in found.items()} == {
        "seen-0": "ok",
        "killing-its-job": "killed",
        "cancelled": "killed",
        "held": "killed",
    }, {name: record.reason for name, record in found.items()}


def test_a_network_that_parts_gives_one_record(
    cluster: Cluster, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's job computes on, unseen by SLURM, which starts it again elsewhere."""
    monkeypatch.chdir(ROOT)
    configs = [run(compose, tmp_path, SLEEPS, "parted", task="sleep_at_first", partition="a100")]
    with cluster.here():
        sent = Sent(cluster, configs, launcher())
        node = sent.node_of("parted")
        cluster.kill_node(node, steps=False)
        try:
            found = sent.records()["parted"]
            until(lambda: "given up" in sent.output("parted") or not _of_run(sent.folder["parted"]), 240)
        finally:
            cluster.start_node(node)
    assert found.outcome == "ok"
    assert found.details["seen"]["SLURMD_NODENAME"] != node
    assert found.details["restarts"]["number"] == 1


def _of_run(folder: Path) -> list[str]:
    """Processes that write to a run's log."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if str(link.readlink()) == str(folder / "run.log"):
                found.append(link.parts[2])
        except OSError:
            continue
    return found


def test_a_sweep_is_cancelled_in_order(
    cluster: Cluster, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    configs = [
        run(compose, tmp_path, SLEEPS, "first", partition="a100"),
        *(
            run(compose, tmp_path, SEEN, f"waiting-{n}", partition="a100", extra={"hold": True})
            for n in range(3)
        ),
    ]
    with cluster.here():
        sent = Sent(cluster, configs, launcher())
        sent.node_of("first")
        manifest = sent.manifest
        assert manifest is not None
        command = [sys.executable, "-m", "src.collect", f"sweep={manifest.sweep}", "cancel=true"]
        command += [f"outputs={tmp_path}", "tracking=none", "poll_s=1"]
        done = subprocess.run(command, cwd=ROOT, env=cluster.env, capture_output=True, text=True, timeout=200)
        found = sent.records()
    assert {str(record.outcome) for record in found.values()} == {"killed"}
    assert {record.reason for record in found.values()} <= {"cancelled by src.collect", *_cancelled(sent)}
    assert "3 pending" in done.stdout, done.stdout + done.stderr
    assert done.returncode in (0, 1), done.stderr  # tracking=none publishes nothing


def _cancelled(sent: Sent) -> set[str]:
    """What the follower may have said before the one who cancels."""
    return {record.reason for record in sent.records().values() if "was cancelled" in record.reason}
