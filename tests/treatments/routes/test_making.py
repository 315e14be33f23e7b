"""Where weights are quantized and through what: the same weights in every way, and what each holds in memory."""

import pytest
import torch
from torch import nn

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.treatments.layers import is_quantized
from src.workloads.model import build_model
from src.workloads.weights.parameters import size_bytes
from tests.conftest import SMALL_FLUX, SMALL_LINEAR
from tests.treatments.conftest import assert_same

CPU = torch.device("cpu")
FLUX = (*SMALL_FLUX, "dtype=float32")
PIPELINE = (*FLUX, "resolution=32", "target=pipeline", "model.pipeline.steps=1")
ELSEWHERE = [("quant.where=cpu",), ("quant.where=streamed",)]


# ---- where


@pytest.mark.parametrize("quant", ["int8wo", "int8dq", "float8wo", "int4wo", "int8_static", "none"])
def test_the_weights_are_the_same_wherever_they_are_quantized(make, quant):
    one = make(*FLUX, f"quant={quant}")
    assert bool(one.record.metrics["quantize/layers"]) == (quant != "none")
    for where in ELSEWHERE:
        other = make(*FLUX, f"quant={quant}", *where)
        assert_same(one, other)
        assert not any(p.requires_grad for p in other.treated.module.parameters())


@pytest.mark.parametrize(
    "overrides",
    [
        (*FLUX, "target=block", "layers=field_default", "quant.layers.min_side=128"),
        (*FLUX, "target=linear"),
        SMALL_LINEAR,
        (*PIPELINE, "quant.components=[denoiser,vae]"),
        (*FLUX, "measure.pairing=in_turn"),
    ],
    ids=["block", "linear", "model=linear", "pipeline", "in turn"],
)
def test_so_of_every_target(make, overrides):
    first = make(*overrides)
    for where in ELSEWHERE:
        assert_same(first, make(*overrides, *where))


def test_so_of_weights_that_are_loaded(make, compose, tmp_path):
    build_model(compose(*FLUX).model, CPU, torch.float32, seed=3).save_pretrained(tmp_path)
    local = (*FLUX, "model.weights.source=local", f"model.weights.id={tmp_path}")
    first = make(*local)
    for way in (*ELSEWHERE, ("quant.via=diffusers",)):
        assert_same(first, make(*local, *way))


@pytest.mark.parametrize("where", ["device", "cpu", "streamed"])
def test_each_way_is_recorded(make, where):
    record = make(*FLUX, f"quant.where={where}").record
    assert (record.details["where"], record.details["via"]) == (where, "direct")
    assert record.metrics["quantize/time_s"] > 0
    assert record.metrics["quantize/layers"] == record.details["components"]["denoiser"]["quantized"] > 20
    assert record.phases_s["quantize"] >= record.metrics["quantize/time_s"] > 0
    assert "memory/quantize_peak_gib" in record.metrics or not _rss_can_be_reset()


def _rss_can_be_reset():
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
            file.write("5")
    except OSError:
        return False
    return True


def test_streamed_never_holds_the_unquantized_model(make):
    deep = (
        "model=flux-tiny",
        "model.factory.num_attention_heads=4",
        "model.factory.num_layers=3",
        "model.factory.num_single_layers=6",
        "resolution=64",
    )
    whole, streamed = (
        make(*deep, "quant=int4wo", f"quant.where={where}", watched=True) for where in ("device", "streamed")
    )
    assert whole.peak > whole.unquantized
    assert streamed.peak < 0.6 * whole.unquantized
    quantized, largest = size_bytes(streamed.treated.module), max(r.K * r.N * 2 for r in streamed.rows)
    assert streamed.peak < quantized + 8 * largest  # torchao's own copies of one layer, in float32


def test_autoquant_applies_a_plan_elsewhere(make, compose, tmp_path):
    import json

    choice = {
        "M": 16, "K": 128, "N": 512, "layers": ["transformer_blocks.0.ff.net.0.proj"],
        "scheme": "int8wo", "reason": "given", "trials": [],
    }  # fmt: skip
    plan = {"model": "flux-tiny", "target": "denoiser", "compile": "none", "device": "x", "plan_version": 2}
    (tmp_path / "given.json").write_text(json.dumps(plan | {"choices": [choice]}))
    given = (*FLUX, "quant=autoquant", f"quant.plan={tmp_path / 'given.json'}")
    first, second = make(*given), make(*given, "quant.where=streamed")
    assert_same(first, second)
    assert [row.fqn for row in second.rows if row.scheme] == choice["layers"]


def test_autoquant_sees_the_layers_of_a_compiled_baseline(compose, execute_run):
    """Its weights elsewhere, autoquant looks at the baseline, which does not call hooks once it is compiled."""
    others = [f"~quant.candidates.{name}" for name in ("int8dq", "float8wo", "float8dq", "int4wo")]
    compiled = ("compile=regional", "compile.backend=eager", "quant.layer_budget_s=0.01")
    where = ("target=block", "quant.where=streamed", "quant.layers.include=[to_q,ff.net]")
    record = execute_run(compose(*FLUX, *where, *compiled, "quant=autoquant", *others))
    assert record.outcome is Outcome.OK, record.reason


# ---- through diffusers


@pytest.mark.parametrize(
    "overrides",
    [
        ("quant=int8wo",),
        ("quant=int8dq",),
        ("quant=int8wo", "layers=field_default", "quant.layers.min_side=128"),
        ("quant=int8wo", "quant.layers.exclude=['^proj_out$']"),  # a name that ends others
        ("quant=int8wo", "target=block", "quant.layers.include=[ff]"),
        ("quant=int8wo", "quant.where=cpu"),
        ("quant=int8wo", "measure.pairing=in_turn"),
        ("quant=none",),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_diffusers_makes_the_same(make, overrides):
    """In bfloat16: how a product in float32 is summed up goes by where the weights lie in memory."""
    assert_same(make(*SMALL_FLUX, *overrides), make(*SMALL_FLUX, *overrides, "quant.via=diffusers"))


T5 = """
name: t5
factory:
  _target_: transformers.T5EncoderModel
  config: {_target_: transformers.T5Config, vocab_size: 100, d_model: 64, d_ff: 128, num_layers: 1, num_heads: 2}
inputs:
  input_ids: {shape: [batch, 8], fill: 5, dtype: int64}
call: {return_dict: false}
targets: {denoiser: ""}
"""


@pytest.mark.parametrize("quant", [("quant=int8wo", "quant.layers.exclude=[wo]"), ("quant=none",)])
def test_so_of_a_model_of_transformers(make, tmp_path, quant):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "t5.yaml").write_text(T5)
    t5 = (f"hydra.searchpath=[file://{tmp_path}]", "model=t5", *quant)
    assert_same(make(*t5), make(*t5, "quant.via=diffusers"))


def test_nothing_is_left_of_the_weights_that_were_written(make, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "quantpay-weights-of-another-run").mkdir()
    made = make(*FLUX, "quant=int8wo", "quant.via=diffusers")
    assert [path.name for path in tmp_path.iterdir() if "weights" in path.name] == [
        "quantpay-weights-of-another-run"
    ]
    assert made.record.phases_s["save"] > 0
    assert made.record.details["via"] == "diffusers"


def test_what_diffusers_refuses_is_unsupported(make):
    with pytest.raises(RunEndedError, match="diffusers refuses int4wo here") as caught:
        make(*FLUX, "quant=int4wo", "quant.via=diffusers", "quant.layers.exclude=[]", "quant.group_size=128",
             "quant.per_device.cpu.config._target_=torchao.quantization.Int4WeightOnlyConfig")  # fmt: skip
    assert caught.value.outcome is Outcome.UNSUPPORTED


def test_a_model_that_diffusers_does_not_know(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant.via=diffusers"))
    assert record.outcome is Outcome.FAILED
    assert "quant.via=diffusers: Linear is no model of diffusers; give quant.via=direct" in record.reason


# ---- components


@pytest.mark.parametrize("components", [["denoiser"], ["vae"], ["denoiser", "vae"]])
def test_the_named_components_are_quantized(make, components):
    made = make(*PIPELINE, f"quant.components=[{','.join(components)}]")
    for row in made.rows:
        quantized = is_quantized(made.treated.module.get_submodule(row.fqn))
        assert quantized == (row.component in components) == (row.scheme == "int8wo")
        assert row.reason == ("" if quantized else f"{row.component} is not in quant.components")
    found = made.record.details["components"]
    assert found["vae"]["linear"] == 4
    assert found["vae"]["quantized"] == (4 if "vae" in components else 0)
    assert found["vae"]["other"] > 20  # convolutions
    assert 0 <= found["vae"]["quantized_share"] < 0.1
    assert (found["vae"]["quantized_share"] > 0) == ("vae" in components)
    warned = [
        text for text in made.record.details["warnings"] if text.startswith("vae: the 4 quantized Linear")
    ]
    assert len(warned) == ("vae" in components)
    assert found["denoiser"]["quantized"] == (found["denoiser"]["linear"] if "denoiser" in components else 0)
    convolutions = [m for m in made.treated.module.vae.modules() if isinstance(m, nn.Conv2d)]
    assert all(type(m.weight) is nn.Parameter for m in convolutions)


@pytest.mark.parametrize("way", [*ELSEWHERE, ("quant.via=diffusers",)], ids=lambda way: way[0])
def test_a_vae_is_tiled_and_sliced_however_its_weights_came_about(make, way):
    small = (*SMALL_FLUX, "target=pipeline", "resolution=32", "model.pipeline.steps=1")
    vae = make(*small, "recipe.vae_tiling=true", "recipe.vae_slicing=true", *way).treated.module.vae
    assert (vae.use_tiling, vae.use_slicing) == (True, True)


def test_a_run_of_a_pipeline_whose_vae_is_quantized(compose, execute_run):
    record = execute_run(compose(*PIPELINE, "quant.components=[vae]", "quant.where=streamed"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quantize/layers"] == 4
    assert record.metrics["quality/psnr_db"] > 25


# ---- what a run says


def test_a_pattern_that_matches_nothing_is_a_warning(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant.layers.exclude=[to_q]"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["warnings"] == ["quant.layers.exclude[0]=to_q matches no layer"]


def test_a_preset_that_takes_no_layer_says_which_rules_did(compose, execute_run):
    record = execute_run(compose(*FLUX, "layers=large"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "int8wo fits none of the" in record.reason
    assert "x a side below quant.layers.min_side=1024" in record.reason
    assert "x quant.layers.exclude: embed" in record.reason
    assert record.details["warnings"] == []


def test_rules_bind_autoquant_too(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=autoquant", "quant.layers.max_m=1"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "1 x M above quant.layers.max_m=1" in record.reason


def test_a_baseline_that_overflows_ends_the_run_before_anything_is_quantized(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "dtype=float16", "model.weights.std=10000"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert "baseline itself returns NaN or infinity; first" in record.reason
    assert "dtype=bfloat16" in record.remedy
    assert "quantize" not in record.phases_s
