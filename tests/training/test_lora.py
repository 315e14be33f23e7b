"""Adapters beside a quantized model: what trains, what passes no gradient on, what peft does not take."""

from itertools import count
from pathlib import Path

import pytest
from safetensors.torch import load_file

from src.records.record import Outcome
from src.training.arm import TrainingArm
from src.training.lora import ADAPTERS_NAME
from tests.conftest import SMALL_FLUX

LORA = (
    *SMALL_FLUX,
    "model.dims.text_tokens=8",
    "task=training",
    "layers=all",
    "measure.min_pairs=3",
    "measure.max_pairs=3",
    "training.steps=3",
    "training.learning_rate=0.001",
    "training.lora.rank=4",
)


def test_without_peft_a_run_says_what_to_install(compose, execute_run, monkeypatch):
    monkeypatch.setattr("src.training.lora.find_spec", lambda _: None)
    record = execute_run(compose(*LORA, "quant=none"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert record.remedy == 'pip install -e ".[lora]"'


def test_adapters_beside_int8_weights_learn_are_saved_and_loaded(compose, execute_run, tmp_path):
    pytest.importorskip("peft")
    record = execute_run(compose(*LORA, "quant=int8wo"))
    assert record.outcome is Outcome.OK, record.reason
    metrics = record.metrics
    assert metrics["training/loss"] < metrics["training/baseline_first_loss"]
    assert 0 < metrics["training/trained_share"] < 0.02
    assert metrics["memory/model_gib"] < 0.6 * metrics["memory/baseline_model_gib"]
    assert metrics["memory/optimizer_gib"] < 0.05 * metrics["memory/model_gib"]
    assert metrics["quality/adapted_sqnr_db"] == pytest.approx(metrics["quality/sqnr_db"], abs=6)
    saved = load_file(Path(tmp_path) / "run" / ADAPTERS_NAME)
    assert any(weight.any() for name, weight in saved.items() if "lora_B" in name)  # they begin at 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("unable to write to file </torch_1>: No space left on device (28)"),
        RuntimeError("shapes cannot be multiplied"),
        OSError(5, "Input/output error"),
    ],
)
def test_what_goes_wrong_in_the_first_step_of_adapters_is_no_finding(
    compose, execute_run, monkeypatch, error
):
    pytest.importorskip("peft")
    looks = count()

    def broken(arm, own=TrainingArm.first_look):
        if next(looks):  # the treated arm's
            raise error
        return own(arm)

    monkeypatch.setattr(TrainingArm, "first_look", broken)
    record = execute_run(compose(*LORA, "quant=int8wo"))
    assert record.outcome is Outcome.FAILED
    assert str(error) in record.reason


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("quant=int4dq",), "its layers pass no gradient on"),
        (("quant=int4wo",), "derivative for aten::_weight_int4pack_mm_for_cpu is not implemented"),
        (("quant=int8dq",), "its int8 matmul has no backward"),
        (("quant=none", "training.lora.layers=nowhere"), "peft refuses training.lora.layers=nowhere"),
    ],
)
def test_what_has_no_gradient_is_unsupported_with_the_reason(compose, execute_run, overrides, said):
    pytest.importorskip("peft")
    record = execute_run(compose(*LORA, *overrides))
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    assert said in record.reason
    assert record.remedy
