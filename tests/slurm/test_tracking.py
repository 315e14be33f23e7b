"""A tracker that goes and comes back while a cluster's jobs publish their own records."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from mlflow import MlflowClient

from tests.slurm.cluster import Cluster
from tests.slurm.test_sweeps import CONF, LAUNCHER, ROOT, records, until

pytestmark = pytest.mark.slurm
RUNS = 3


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The servers of the tests of records, which are no package."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "records"))
    return importlib.import_module("servers")


def test_a_server_that_goes_and_comes_back_has_every_run_once(
    cluster: Cluster, servers: ModuleType, tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    outputs, server = tmp_path / "out", servers.Server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    tracking = ["tracking=server", f"tracking.uri={server.uri}"]
    server.start()
    try:
        cheap = (
            "model=linear",
            "model.dims={M:4,K:64,N:64}",
            "dtype=bfloat16",
            "compile=none",
            "task=seen",
            "gpu=h100",
        )
        asked = (*cheap, f"seed=range(1,{RUNS + 1})", "tracking.publish=worker", f"outputs={outputs}")
        driver = subprocess.Popen(
            [sys.executable, "-m", "src.run", "--config-dir", str(CONF), "-m", *asked, *LAUNCHER, *tracking],
            env=cluster.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: len(list(outputs.glob("runs/*/*/published.json"))) >= 1)
        server.stop(signal.SIGKILL)
        until(lambda: len(records(outputs)) == RUNS)
        server.start()
        said, _ = driver.communicate(timeout=200)
        assert driver.returncode == 0, said
        collect = [sys.executable, "-m", "src.collect", f"outputs={outputs}", *tracking]
        done = subprocess.run(
            collect, env=os.environ | cluster.env, cwd=ROOT, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("quantpay")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], max_results=100)
        kinds = Counter(run.data.tags["kind"] for run in found)
        assert kinds == {"run": RUNS, "sweep": 1}
        assert len({run.data.tags.get("run_key") for run in found}) == RUNS + 1
        assert {run.info.status for run in found} == {"FINISHED"}
    finally:
        server.stop()
