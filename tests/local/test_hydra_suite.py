"""Hydra's own test suite for launchers, on the one that also runs what measures nothing."""

from pathlib import Path

import pytest
from hydra.test_utils.launcher_common_tests import LauncherTestSuite
from omegaconf import OmegaConf

from hydra_plugins.quantpay._launcher import measures
from src.config.schema import CollectConf, RootConf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _code_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's applications start elsewhere, and so do their jobs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.usefixtures("no_version_base")
@pytest.mark.parametrize(("launcher_name", "overrides"), [("local", [])])
class TestLocal(LauncherTestSuite):
    pass


def test_runs_are_told_from_other_configurations() -> None:
    assert measures(OmegaConf.structured(RootConf))
    assert not measures(OmegaConf.structured(CollectConf))
    assert not measures(OmegaConf.create({"quant": "int8wo"}))
