"""The sweeps over every scheme hold every scheme."""

import re

import pytest
import yaml

from src.config.paths import ROOT
from tests.app.conftest import Call
from tests.conftest import canonical

APART = {"codebook", "regime"}  # the one by sweeps/codebook.yaml, the other once single layers are known
COMPILE = {
    "cpu": ["none", "regional"],
    "gpu": ["none", "regional"],
    "gpu_wide": ["none", "default"],
    "flux_dev": ["regional"],
}


def test_the_list_of_schemes_has_each_of_them_once() -> None:
    listed = yaml.safe_load((ROOT / "conf" / "schemes.yaml").read_text())["quant"].replace(" ", "").split(",")
    assert sorted(listed) == sorted({*canonical("quant")} - APART)


def test_no_sweep_over_schemes_is_left_out_here() -> None:
    assert {f"schemes_{name}" for name in COMPILE} == {
        path.stem for path in (ROOT / "sweeps").glob("schemes_*.yaml")
    }


@pytest.mark.parametrize("name", COMPILE)
def test_a_sweep_over_schemes_takes_the_list_in_each_compile_mode(call: Call, name: str) -> None:
    """With two schemes in the list's place: to compose each of them four times takes a minute."""
    assert "  - /schemes@hydra.sweeper.params\n" in (ROOT / "sweeps" / f"schemes_{name}.yaml").read_text()
    result = call(f"sweeps=schemes_{name}", "quant=none,mxfp8")
    runs = result.runs
    assert (result.status, result.err) == (0, "")
    assert sorted((run.quant.name, run.compile.name) for run in runs) == sorted(
        (scheme, mode) for scheme in ("none", "mxfp8") for mode in COMPILE[name]
    )
    models = {"cpu": "flux-tiny", "gpu": "flux-tiny"}
    assert {run.model.name for run in runs} == {models.get(name, "flux-dev")}
    assert all(run.quant.emulate for run in runs) == (name != "flux_dev")


def test_what_is_apart_has_a_sweep_of_its_own(call: Call) -> None:
    assert {run.quant.name for run in call("sweeps=codebook").runs} == {"codebook"}


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_says_how_it_is_run_and_what_it_shows(path) -> None:  # type: ignore[no-untyped-def]
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert re.match(rf"# python -m src\.run sweeps={path.stem}( |$)", lines[1])
    assert lines[2].startswith("# ")
    assert yaml.safe_load(path.read_text())["hydra"]["mode"] == "MULTIRUN"
