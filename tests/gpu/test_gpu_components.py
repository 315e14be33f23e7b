"""Components, static scales elsewhere, and whole pipelines through diffusers on a real CUDA device."""

import pytest
import torch

from src.devices.capability import Status, capability
from src.devices.device import AutoDevice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FLUX = ("model=flux-tiny", "gpu=auto", "compile=none", "measure.budget_s=1")
TOKENS = (*FLUX, "target=pipeline", "model.pipeline.prompt=tokens")
EVERY = "quant.components=[denoiser,vae,text_encoder,text_encoder_2]"
SAME = ("quality/sqnr_db", "quality/max_abs_error", "quantize/layers", "memory/model_gib")


def assert_alike(first, second):
    assert [record.outcome for record in (first, second)] == ["ok", "ok"], [first.reason, second.reason]
    for name in SAME:
        assert first.metrics[name] == pytest.approx(second.metrics[name], rel=1e-6)


@pytest.mark.parametrize("pairing", ["interleaved", "in_turn"])
@pytest.mark.parametrize("compiled", ["none", "regional"])
@pytest.mark.parametrize("where", ["streamed", "cpu"])
@pytest.mark.parametrize("quant", ["int8_static", "float8_static"])
def test_static_scales_elsewhere(compose, execute_run, quant, where, compiled, pairing):
    """Streamed weights are those of `device`; the host's generator makes others, so only their quality is alike."""
    options = (*FLUX, f"quant={quant}", f"compile={compiled}", f"measure.pairing={pairing}")
    cfg = compose(*options)
    if capability(cfg.quant, AutoDevice(cfg.gpu).open(), cfg.dtype).status is not Status.OK:
        pytest.skip(f"{quant} does not run here")
    first, second = (execute_run(compose(*options, f"quant.where={each}")) for each in ("device", where))
    if where == "streamed" and compiled == "none":
        assert_alike(first, second)
    assert [record.outcome for record in (first, second)] == ["ok", "ok"], [first.reason, second.reason]
    assert second.metrics["quantize/layers"] == first.metrics["quantize/layers"]
    assert second.metrics["quality/sqnr_db"] == pytest.approx(first.metrics["quality/sqnr_db"], abs=2)


@pytest.mark.parametrize("where", ["device", "cpu"])
@pytest.mark.parametrize("quant", ["int8wo", "float8wo"])
def test_diffusers_makes_the_same_pipeline(compose, execute_run, quant, where):
    ways = ("quant.via=direct", "quant.via=diffusers")
    assert_alike(
        *(execute_run(compose(*TOKENS, EVERY, f"quant={quant}", f"quant.where={where}", w)) for w in ways)
    )


@pytest.mark.parametrize(
    "components", ["[text_encoder]", "[text_encoder_2]", "[vae]", EVERY.partition("=")[2]]
)
def test_components_apart_and_together(compose, execute_run, components):
    record = execute_run(
        compose(*TOKENS, "quant=int8wo", f"quant.components={components}", "compile=regional")
    )
    assert record.outcome == "ok", record.reason
    named = components.strip("[]").split(",")
    for name, counts in record.details["components"].items():
        assert bool(counts["quantized"]) == (name in named)


def test_float16_that_overflows_says_where(compose, execute_run):
    std = "model.pipeline.text_encoders.text_encoder_2.weights.std=20"
    record = execute_run(compose(*TOKENS, "quant=int8wo", "dtype=float16", std))
    assert record.outcome == "bad_numerics", record.reason
    assert "text_encoder_2" in record.reason
    assert "dtype=bfloat16" in record.remedy
