"""Training steps by real kernels: float8's recipes, int8, small optimizers."""

import pytest
import torch

from src.devices.capability import Status, capability
from src.devices.device import AutoDevice
from src.records.record import Outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BLOCK = (
    "model=flux-tiny",
    "target=block",
    "gpu=auto",
    "dtype=bfloat16",
    "task=training",
    "training.steps=10",
)
SHORT = ("measure.budget_s=2", "measure.warm_compile=false", "training.learning_rate=0.001")
RECIPES = (
    *("float8_tensorwise", "float8_rowwise", "float8_rowwise_with_gw_hp"),
    *("int8_mixed_precision", "adamw8bit"),
)


@pytest.mark.parametrize("mode", ["none", "default"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_or_says_why_not(compose, execute_run, recipe, mode):
    cfg = compose(*BLOCK, *SHORT, f"quant=training/{recipe}", f"compile={mode}")
    predicted = capability(cfg.quant, AutoDevice(cfg.gpu).open(), cfg.dtype)
    record = execute_run(cfg)
    if predicted.status is not Status.OK:
        assert record.outcome is Outcome.UNSUPPORTED
        assert record.remedy
        return
    assert record.outcome is Outcome.OK, record.reason
    metrics = record.metrics
    assert metrics["speedup/ratio"] > 0
    assert metrics["memory/peak_allocated_gib"] > metrics["memory/model_gib"]
    assert metrics["training/loss"] < metrics["training/baseline_first_loss"]
    assert metrics["quality/loss_distance"] < 0.1


def test_a_batch_that_does_not_fit_is_out_of_memory(compose, execute_run):
    record = execute_run(compose(*BLOCK, *SHORT, "quant=none", "compile=none", "batch=65536"))
    assert record.outcome is Outcome.OOM
    assert "\n" not in record.reason
