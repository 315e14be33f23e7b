"""task=training: steps by a recipe against steps without it; what both arms' losses say; what cannot be trained."""

import json
import math
import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from src.checks.validation import check
from src.config.errors import ConfigError
from src.config.schema.steps import NO_OPTIMIZER
from src.records.key import run_key
from src.records.mlflow.points import points
from src.records.record import EMULATED, Outcome
from src.training.gradients import gradient_sqnr_db
from src.treatments.recipes import convert
from tests.conftest import SMALL_FLUX, int8_matmul_saturates

FAST = ("task=training", "dtype=float32", "training.steps=4", "training.learning_rate=0.001")
FLUX = (*SMALL_FLUX, *FAST, "layers=all", "quant.layers.exclude=[embed]")
LINEAR = ("model=linear", "model.dims.M=32", "model.dims.K=64", "model.dims.N=128", *FAST, "layers=all")
FLOAT8 = ("tensorwise", "rowwise", "rowwise_with_gw_hp")


def losses(tmp_path):
    return json.loads((tmp_path / "run" / "losses.json").read_text())


@pytest.mark.parametrize("recipe", FLOAT8)
def test_an_emulated_recipe_trains_nearly_as_the_model_does_without_it(
    compose, execute_run, tmp_path, recipe
):
    record = execute_run(compose(*FLUX, f"quant=training/float8_{recipe}", "training.emulate=true"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.verdict == EMULATED
    assert "speedup/ratio" not in record.metrics
    curves = losses(tmp_path)
    assert len(curves["loss"]) == len(curves["baseline_loss"]) == 4
    for losses_of_arm in curves.values():
        assert losses_of_arm[-1] < losses_of_arm[0]
    assert curves["loss"] != curves["baseline_loss"]
    assert 0 < record.metrics["quality/loss_distance"] < 0.1
    assert 15 < record.metrics["quality/gradient_sqnr_db"] < 40
    layers = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert record.metrics["quantize/layers"] == sum(bool(layer["scheme"]) for layer in layers) > 10
    computed = {layer["fqn"]: {*layer["products"]} for layer in layers}
    assert computed["x_embedder"] == {"forward", "grad_weight"}  # nothing is learned of the model's input
    assert computed["transformer_blocks.0.attn.to_q"] == {"forward", "grad_input", "grad_weight"}
    assert sum(each["share"] for layer in layers for each in layer["products"].values()) == pytest.approx(1)
    assert 0.5 < record.metrics["training/flop_share"] < 1


def test_equal_arms_from_the_same_seed_have_the_same_curve_bit_for_bit(compose, execute_run, tmp_path):
    cfg = compose(*FLUX, "quant=none")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    curves = losses(tmp_path)
    assert curves["loss"] == curves["baseline_loss"]
    assert record.metrics["quality/loss_distance"] == 0
    assert record.metrics["speedup/ratio"] > 0
    weights = record.metrics["memory/baseline_model_gib"]
    assert record.metrics["memory/gradients_gib"] == pytest.approx(weights, rel=0.01)
    assert record.metrics["memory/optimizer_gib"] == pytest.approx(2 * weights, rel=0.01)
    assert record.metrics["memory/activations_gib"] > 0
    told = {name for name, _, _ in points(record, tmp_path / "run")}
    assert {"training/loss_of_step", "training/baseline_loss_of_step"} <= told


def test_a_recipe_without_its_device_says_so_and_what_can_be_had(compose, execute_run):
    record = execute_run(compose(*LINEAR, "quant=training/float8_rowwise"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "training/float8_rowwise needs a cuda device" in record.reason
    assert record.remedy.endswith("or training.emulate=true, for its loss curve alone")


@pytest.mark.parametrize(
    ("quant", "why"),
    [("int8dq", "its int8 matmul has no backward"), ("int8wo", "it is for inference")],
)
def test_a_scheme_for_inference_does_not_train(compose, execute_run, quant, why):
    record = execute_run(compose(*LINEAR, f"quant={quant}"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert record.reason.startswith(f"quant={quant} does not train: {why}")
    assert record.remedy.startswith("a training recipe: quant=training/float8_rowwise")


def test_rules_that_leave_no_layer_say_which_took_it(compose, execute_run):
    emulated = ("quant=training/float8_tensorwise", "training.emulate=true")
    record = execute_run(compose(*LINEAR, *emulated, "quant.layers.min_side=1024"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "fits none of the 1 Linear layers (1 x a side below quant.layers.min_side=1024" in record.reason
    record = execute_run(compose(*LINEAR, *emulated, "model.dims.M=7"))
    assert "M=7 is not a multiple of 16" in record.reason


def test_int8_matmuls_train_on_this_device(compose, execute_run, tmp_path):
    record = execute_run(compose(*LINEAR, "quant=training/int8_mixed_precision"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.verdict
    assert (15 if int8_matmul_saturates() else 25) < record.metrics["quality/sqnr_db"] < 50
    assert losses(tmp_path)["loss"][-1] < losses(tmp_path)["loss"][0]


def test_a_probe_has_three_matmuls_and_can_do_without_an_optimizer(compose, execute_run, tmp_path):
    unstepped = ("training.optimizer._target_=src.training.arm.Unstepped", "measure.budget_s=0.1")
    record = execute_run(
        compose(*LINEAR, "quant=training/float8_rowwise", "training.emulate=true", *unstepped)
    )
    assert record.outcome is Outcome.OK, record.reason
    assert record.shape == {"M": 32, "K": 64, "N": 128}
    assert len({*losses(tmp_path)["loss"]}) == 1
    (layer,) = json.loads((tmp_path / "run" / "layers.json").read_text())
    third = pytest.approx(1 / 3)
    assert layer["products"] == {
        "forward": {"M": 32, "K": 64, "N": 128, "share": third},
        "grad_input": {"M": 32, "K": 128, "N": 64, "share": third},
        "grad_weight": {"M": 128, "K": 32, "N": 64, "share": third},
    }
    assert record.metrics["training/flop_share"] == pytest.approx(1)


@torch.enable_grad()
def test_int8_layers_compile_forward_and_backward():
    from torchao.prototype.quantized_training import Int8MixedPrecisionTrainingConfig

    layer = nn.Sequential(nn.Linear(16, 16))
    convert(layer, Int8MixedPrecisionTrainingConfig(module_swap=True), {"0"})
    given, seen = torch.randn(32, 16), []
    for call in (layer[0], torch.compile(layer[0].forward, backend="aot_eager", fullgraph=True)):
        layer.zero_grad()
        output = call(given)
        output.sum().backward()
        seen.append((output.detach(), layer[0].weight.grad.clone()))
    torch.testing.assert_close(seen[0], seen[1])


@torch.enable_grad()
def test_int8_layers_take_parts_of_a_sequence():
    """Neither the inputs nor the gradients of two joined sequences lie row after row where there is a batch."""
    from torchao.prototype.quantized_training import Int8MixedPrecisionTrainingConfig

    text, image = nn.Sequential(nn.Linear(16, 16)), nn.Sequential(nn.Linear(16, 16))
    given, weights = torch.randn(2, 8, 16, requires_grad=True), torch.randn(2, 8, 16)
    seen = []
    for _ in range(2):
        given.grad = None
        (torch.cat([text(given[:, :5]), image(given[:, 5:])], dim=1) * weights).sum().backward()
        seen.append(given.grad)
        for part in (text, image):
            convert(part, Int8MixedPrecisionTrainingConfig(module_swap=True), {"0"})
    assert gradient_sqnr_db({"x": seen[0]}, {"x": seen[1]}) > (5 if int8_matmul_saturates() else 25)


def test_a_training_that_fails_during_the_rounds_keeps_its_times_and_says_so(compose, execute_run):
    """A curve of one step is a number; the rounds go on with the training."""
    options = ("quant=none", "training.optimizer._target_=torch.optim.SGD", "training.learning_rate=1e30")
    record = execute_run(compose(*LINEAR, *options, "training.steps=1"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["latency/median_ms"] > 0
    assert [said for said in record.details["warnings"] if "after the rounds: what was timed" in said]


def test_a_loss_that_is_no_number_is_told_with_its_step(compose, execute_run, tmp_path):
    record = execute_run(
        compose(
            *LINEAR,
            "quant=none",
            "training.optimizer._target_=torch.optim.SGD",
            "training.learning_rate=10",
            "training.steps=400",
            "model.weights.std=1e18",
        )
    )
    assert record.outcome is Outcome.BAD_NUMERICS
    assert "loss of step" in record.reason
    assert "\n" not in record.reason


def test_a_recipe_that_rounds_stochastically_has_the_same_curve_again(compose, execute_run, tmp_path):
    cfg = compose(*LINEAR, "quant=training/int8_weight_only", "measure.budget_s=0.1")
    curves = []
    for _ in range(2):
        torch.seed()  # whatever the process drew before
        assert execute_run(cfg).outcome is Outcome.OK
        curves.append(losses(tmp_path)["loss"])
    assert curves[0] == curves[1]


def test_losses_are_kept_up_to_the_first_that_is_no_number(compose, execute_run, tmp_path, monkeypatch):
    """What comes after it would stand at another step."""
    monkeypatch.setattr("src.training.arm.TrainingArm.curve", lambda *_: [3.0, 2.0, math.nan, 1.0])
    record = execute_run(compose(*LINEAR, "quant=none"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert record.reason == "the baseline arm's loss of step 3 is nan"
    assert losses(tmp_path)["loss"] == [3.0, 2.0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("quant=training/adamw8bit",), "quant=training/adamw8bit: a training recipe; give task=training"),
        (("task=training", "target=pipeline"), "target=pipeline: task=training trains a denoiser"),
        (("task=training", "measure.pairing=in_turn"), "task=training holds both arms at once"),
        (("task=training", "quant.where=cpu"), "task=training takes device and direct alone"),
        (("task=training", "training.optimizer._target_=torch.optim.Adamx"), "training.optimizer._target_"),
        (
            ("task=training", f"training.optimizer._target_={NO_OPTIMIZER}", "quant=training/adamw8bit"),
            f"training.optimizer._target_={NO_OPTIMIZER}: quant=training/adamw8bit brings its own optimizer",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(compose, overrides, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        check(OmegaConf.structured(compose(*overrides)))


def test_how_a_training_steps_is_part_of_its_key(compose):
    device = {"name": "a device"}
    few, many = (run_key(compose("task=training", f"training.steps={n}"), device) for n in (7, 8))
    assert few != many
