"""Models of the field said in YAML alone, small: SDXL's UNet, LTX-Video, Qwen-Image, Z-Image."""

import pytest
import torch
import yaml

from src.planning.needs.footprint import Footprints
from src.records.record import Outcome
from src.treatments.layers import capture_layers
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import ROOT
from tests.workloads.factories import SEARCHED

# values that come out for a batch of 2, per pixel: channels, over the pixels of a cell, times frames
VALUES = {
    "tiny-sdxl": 2 * 4 / 8**2,
    "tiny-ltx": 2 * 2 * 32 / 32**2,
    "tiny-qwen": 2 * 16 / 16**2,
    "tiny-zimage": 2 * 4 / 8**2,
}


@torch.no_grad()
@pytest.mark.parametrize("resolution", [64, 128])
@pytest.mark.parametrize("model", VALUES)
def test_what_a_model_is_fed_follows_the_resolution(compose, cpu, model, resolution):
    cfg = compose(SEARCHED, f"model={model}", f"resolution={resolution}", "batch=2")
    workload = build_workload(cfg, cpu)
    (output,) = workload.call()
    assert len(output) == 2
    assert all(torch.isfinite(each).all() for each in output)
    assert sum(each.numel() for each in output) == VALUES[model] * resolution**2
    found = Footprints().of(cfg)
    assert found.trouble == ""
    rows, _ = capture_layers(workload, keep=False)
    assert found.weights == size_bytes(workload.module)
    assert [(row.fqn, row.shape) for row in found.rows] == [(row.fqn, row.shape) for row in rows]


@pytest.mark.parametrize(("model", "target"), [("tiny-sdxl", "block"), ("tiny-qwen", "denoiser")])
def test_a_run_of_it(compose, execute_run, model, target):
    record = execute_run(compose(SEARCHED, f"model={model}", f"target={target}", "quant=int8wo"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quantize/layers"] > 0
    assert record.metrics["quality/sqnr_db"] > 20


def test_a_function_makes_a_model_as_a_class_does(compose, cpu):
    module = "tests.workloads.factories"
    by_class = build_workload(compose(SEARCHED, "model=tiny-wan"), cpu)
    by_function = build_workload(
        compose(SEARCHED, "model=tiny-wan", f"model.factory._target_={module}.wan"), cpu
    )
    states = by_class.module.state_dict(), by_function.module.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_documentations_example_is_sdxl():
    text = (ROOT / "docs" / "models.md").read_text().split("```yaml\n")[1].split("```")[0]
    model = yaml.safe_load((ROOT / "conf" / "model" / "sdxl.yaml").read_text())
    del model["pipeline"]  # the page has it apart
    assert yaml.safe_load(text) == model
