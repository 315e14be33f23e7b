"""Runs whose numbers leave their dtype's range: the record says where, and what to do."""

import pytest

from src.records.record import Outcome
from src.treatments.scheme import Unquantized
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

HERE = __name__
FLUX = (
    *SMALL_FLUX,
    "resolution=32",  # a VAE's convolutions in float16 are slow on a CPU
    "target=pipeline",
    "model.pipeline.steps=1",
    "model.pipeline.prompt=tokens",
    "measure.min_pairs=3",
    "measure.max_pairs=3",
    "model.pipeline.vae.factory.block_out_channels=[16,16,16,16]",
    "model.pipeline.text_encoders.text_encoder.factory.config.num_hidden_layers=1",
    "model.pipeline.text_encoders.text_encoder_2.factory.config.num_layers=1",
)
T5_STD = "model.pipeline.text_encoders.text_encoder_2.weights.std"


class Poison(Unquantized):
    """A treatment that makes one Linear of the denoiser give NaN."""

    def apply(self, workload, rows, run):
        workload.denoiser().get_submodule("transformer_blocks.0.attn.to_k").weight.fill_(float("nan"))


def test_a_text_encoder_that_overflows_in_float16(compose, execute_run):
    record = execute_run(compose(*FLUX, "quant=int8wo", "dtype=float16", f"{T5_STD}=20"))
    assert record.outcome is Outcome.BAD_NUMERICS, record.reason
    assert "first text_encoder_2 encoder.block.0.layer." in record.reason
    assert "whose float16 output holds" in record.reason
    assert record.remedy.startswith("dtype=bfloat16")
    assert "quantize" not in record.phases_s


def test_the_same_in_bfloat16_runs(compose, execute_run):
    record = execute_run(compose(*FLUX, "quant=int8wo", f"{T5_STD}=20"))
    assert record.outcome is Outcome.OK, record.reason


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_dtypes_run_as_they_are(compose, execute_run, dtype):
    record = execute_run(compose(*FLUX, "quant=int8wo", f"dtype={dtype}"))
    assert record.outcome is Outcome.OK, record.reason
    assert ("check numbers" in record.phases_s) == (dtype == "float16")


def test_one_layer_that_overflows(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "dtype=float16", "model.weights.std=10000"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert "the unquantized baseline itself returns NaN or infinity" in record.reason
    assert record.remedy.startswith("dtype=bfloat16")


def test_a_layer_that_gives_zeros_says_nothing_of_quality(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=float32", "model.weights.std=0"))
    assert record.outcome is Outcome.OK, record.reason
    assert [name for name in record.metrics if name.startswith("quality/")] == []
    assert any("the unquantized output is all zeros" in said for said in record.details["warnings"])


def test_a_treated_model_that_gives_nan(compose, execute_run):
    record = execute_run(compose(*SMALL_FLUX, "resolution=64", "quant=none", f"quant._target_={HERE}.Poison"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert (
        "the treated output holds NaN or infinity; first transformer_blocks.0.attn.to_k (Linear)"
        in record.reason
    )
    assert "whose bfloat16 output holds NaN" in record.reason
    assert record.remedy == "quant.layers.exclude, or another scheme"
