"""Hydra's own test suite for launchers: other applications run on ours as on those that Hydra comes with."""

from pathlib import Path

import pytest
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("no_version_base")
QUICK = ["hydra.launcher.poll_s=0.2"]


@pytest.fixture(autouse=True)
def _code_of_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's applications start elsewhere, and so do their jobs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no other session has these devices
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.parametrize(("launcher_name", "overrides"), [("submitit_local", QUICK)])
class TestSubmititLocal(LauncherTestSuite):
    pass


@pytest.mark.parametrize(("launcher_name", "overrides"), [("local", [])])
class TestLocal(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("submitit_local", [*QUICK, "hydra.sweeper.max_batch_size=2"])]
)
class TestSubmititLocalInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=submitit_local", *QUICK])]
)
class TestSubmititLocalIntegration(IntegrationTestSuite):
    pass
