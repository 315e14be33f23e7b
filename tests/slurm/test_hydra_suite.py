"""Hydra's own test suite for launchers, on a real cluster; its command lines are tried in tests/launching."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.test_utils.launcher_common_tests import LauncherTestSuite

from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("no_version_base")]
ROOT = Path(__file__).resolve().parents[2]
QUICK = ["hydra.launcher.poll_s=0.2", "hydra.launcher.partition=h100", "hydra.launcher.mem_gib=1"]


@pytest.fixture(autouse=True)
def _cluster_and_code(cluster_without_accounting: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the suite's applications start elsewhere, and so their jobs
    with cluster_without_accounting.here():
        yield


@pytest.mark.parametrize(("launcher_name", "overrides"), [("slurm", QUICK)])
class TestSlurm(LauncherTestSuite):
    pass
