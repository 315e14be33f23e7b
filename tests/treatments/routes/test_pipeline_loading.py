"""Whole pipelines through diffusers' PipelineQuantizationConfig: the same layers and the same images as directly."""

import re

import pytest
from torchao.quantization import Int8WeightOnlyConfig

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.treatments.routes.torchao_configs import torchao_config
from tests.conftest import SMALL_FLUX
from tests.treatments.conftest import assert_same

SMALL = ("target=pipeline", "resolution=32", "model.pipeline.steps=1")  # a VAE takes seconds for 64 pixels
FLUX = (*SMALL_FLUX, *SMALL)
TOKENS = (*FLUX, "model.pipeline.prompt=tokens")
PIXART = ("model=pixart-tiny", *SMALL)
EVERY = "quant.components=[denoiser,vae,text_encoder,text_encoder_2]"
DIFFUSERS = "quant.via=diffusers"
FIELD = ("layers=field_default", "quant.layers.min_side=128")


@pytest.mark.parametrize(
    "overrides",
    [
        (*FLUX, "quant=int8dq", *FIELD, "quant.components=[denoiser,vae]"),
        (*FLUX, "quant=int8wo", "quant.components=[vae]", "quant.layers.exclude=[to_k]"),
        (*FLUX, "quant=float8wo", "quant.where=cpu"),
        (*FLUX, "quant=none"),
        (*PIXART, "quant=int8wo", "quant.components=[denoiser,vae]"),
        (*TOKENS, "quant=int8wo", "quant.components=[text_encoder,text_encoder_2]",
         "quant.layers.include=[wo,SelfAttention,fc]", "quant.layers.exclude=['fc1$']"),
        (*TOKENS, "quant=int8wo", EVERY, "measure.pairing=in_turn"),
    ],
    ids=lambda overrides: " ".join(each for each in overrides if each.startswith(("model=", "quant", "layers"))),
)  # fmt: skip
def test_diffusers_makes_the_same_pipeline(make, overrides):
    direct, loaded = make(*overrides), make(*overrides, DIFFUSERS)
    assert_same(direct, loaded)
    assert loaded.record.details["via"] == "diffusers"
    assert loaded.record.details["components"] == direct.record.details["components"]
    assert loaded.record.phases_s["save"] > 0


def test_what_is_no_module_of_a_pipeline_is_kept(make):
    wan = ("model=wan-tiny", *SMALL, "frames=5", "dtype=float32")
    made = make(*wan, "+model.pipeline.arguments.expand_timesteps=true", "quant=int8wo", DIFFUSERS)
    assert made.treated.module.pipeline.config.expand_timesteps is True


def test_nothing_is_left_of_what_was_written(make, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    make(*TOKENS, "quant=int8wo", DIFFUSERS)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("quantpay-weights-")] == []


def test_a_run(compose, execute_run):
    record = execute_run(compose(*TOKENS, "dtype=float32", "quant=int8wo", EVERY, DIFFUSERS))
    assert record.outcome is Outcome.OK, record.reason
    counts = record.details["components"]
    assert all(counts[name]["quantized"] == counts[name]["linear"] > 0 for name in counts)
    assert record.metrics["quality/psnr_db"] > 20
    assert record.metrics["quantize/time_s"] > 0


def test_what_diffusers_refuses_is_unsupported(make):
    with pytest.raises(RunEndedError, match="diffusers refuses int4wo here") as caught:
        make(*FLUX, "quant=int4wo", DIFFUSERS,
             "quant.per_device.cpu.config._target_=torchao.quantization.Int4WeightOnlyConfig")  # fmt: skip
    assert caught.value.outcome is Outcome.UNSUPPORTED


def test_a_part_that_neither_library_knows(compose, execute_run):
    part = "model.pipeline.vae.factory={_target_: torch.nn.Identity}"
    record = execute_run(compose(*FLUX, DIFFUSERS, part))
    assert record.outcome is Outcome.FAILED
    assert "quant.via=diffusers: Identity is no model of diffusers; give quant.via=direct" in record.reason


def test_others_are_named_as_each_library_matches_them():
    """A name that ends another one's, and one that begins like another."""
    import diffusers
    import transformers

    linears, config = ["proj_out", "block.proj_out", "block.1", "block.10"], Int8WeightOnlyConfig()
    chosen = {"block.proj_out", "block.10"}
    of_diffusers = torchao_config(diffusers.AutoencoderKL, config, chosen, linears)
    of_transformers = torchao_config(transformers.CLIPTextModel, config, chosen, linears)
    assert of_diffusers.modules_to_not_convert == ["proj_out.weight", "block.1.weight"]
    assert of_diffusers.quant_type is of_transformers.quant_type is config
    matched = {
        name
        for name in linears
        for pattern in of_transformers.modules_to_not_convert
        if re.match(pattern, f"{name}.weight") or f"{name}.weight".endswith(pattern)
    }
    assert matched == {"proj_out", "block.1"}


@pytest.mark.parametrize("overrides", [SMALL_FLUX, FLUX], ids=["denoiser", "pipeline"])
def test_static_scales_do_not_go_through_diffusers(compose, execute_run, overrides):
    record = execute_run(compose(*overrides, "quant=int8_static", DIFFUSERS))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "the scales of int8_static, a tensor for each layer" in record.reason
    assert record.remedy == "quant.via=direct"
    assert "build" not in record.phases_s
