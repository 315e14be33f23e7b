"""The memory of arms that differ in more than quantization, or are quantized both; against what an H200 measured."""

import pytest

from src.config.schema.root import sizes_of_call
from src.devices.device import GIB
from src.planning.needs.footprint import Footprints
from src.workloads.dims import resolve
from tests.conftest import SMALL_FLUX
from tests.planning.needs.test_memory import FLUX, flux

H200 = ("compile=regional", "measure.pairing=auto")
FUSED_LAYERS = ("quant=float8_e4m3_row", "layers=field_default", "recipe.fused_qkv=true")


@pytest.mark.parametrize(
    ("overrides", "seen"),
    [
        (
            ("quant=none", "recipe.fused_qkv=true", "treatment=[recipe.fused_qkv]"),
            {"baseline_model": 22.168, "model": 26.177, "baseline": 22.503, "quantize": 48.388},
        ),
        (
            (*FUSED_LAYERS, "treatment=[quant.layers]"),
            {"baseline_model": 15.107, "model": 15.167, "baseline": 15.375, "quantize": 42.012},
        ),
        (
            (*FUSED_LAYERS, "recipe.cuda_graphs=true", "treatment=[recipe.cuda_graphs]"),
            {"baseline_model": 15.167, "model": 15.167, "baseline": 15.434, "quantize": 42.072},
        ),
        (
            ("quant=none", "treatment=[compile]"),
            {"baseline_model": 22.168, "model": 22.168, "baseline": 22.662, "quantize": 44.374},
        ),
    ],
    ids=["fused_qkv", "layers", "cuda_graphs", "compile"],
)
def test_each_arm_has_its_own_recipe_as_an_h200_measured(compose, overrides, seen):
    """GiB of outputs/published/nvidia-h200, a ladder of FLUX.1-dev."""
    found = flux(compose, *H200, *overrides, card_gib=139.8)
    assert found.baseline_model_gib == pytest.approx(seen["baseline_model"], rel=0.005)
    assert found.model_gib == pytest.approx(seen["model"], rel=0.005)
    for phase in ("baseline", "quantize"):
        assert found.phases_gib[phase] == pytest.approx(seen[phase], rel=0.03), phase


def test_a_recipe_that_is_the_treatment_is_not_the_baselines(compose):
    one, both = (flux(compose, *asked, "recipe.fused_qkv=true", "quant=none") for asked in (
        ["treatment=[recipe.fused_qkv]"], []))  # fmt: skip
    attentions, width = 2 * 19 + 38, 3072
    fused_gib = attentions * 3 * width * (width + 1) * 2 / GIB
    assert one.model_gib == both.model_gib == both.baseline_model_gib
    assert one.model_gib - one.baseline_model_gib == pytest.approx(fused_gib, rel=1e-3)
    assert both.phases_gib["treated"] - one.phases_gib["treated"] == pytest.approx(fused_gib, rel=0.02)
    rows = FLUX.of(compose("model=flux-dev", "recipe.fused_qkv=true"))
    held = one.baseline_model_gib + rows.building / GIB
    assert one.phases_gib["build"] == pytest.approx(held, rel=0.01), "its layers are seen beside the baseline"


def test_graphs_of_the_treated_arm_alone_keep_nothing_of_the_baselines(compose):
    asked = ("quant=none", "compile=regional", "recipe.cuda_graphs=true")
    alone, both = (flux(compose, *asked, f"treatment=[{key}]").phases_gib for key in (
        "recipe.cuda_graphs", "quant"))  # fmt: skip
    activations = FLUX.of(compose("model=flux-dev")).activations / GIB
    assert both["treated"] - alone["treated"] == pytest.approx(activations)
    assert both["quantize"] - alone["quantize"] == pytest.approx(activations)


def test_a_quantized_baseline_is_made_in_place_of_the_unquantized_model(compose):
    layers, usual = (flux(compose, "quant=int8wo", "layers=large", *asked) for asked in (
        ["treatment=[quant.layers]"], []))  # fmt: skip
    every = flux(compose, "quant=int8wo", "layers=all").model_gib
    assert layers.baseline_model_gib == pytest.approx(every)
    assert layers.model_gib == usual.model_gib
    for phase in ("quantize", "treated"):
        saved = usual.phases_gib[phase] - layers.phases_gib[phase]
        assert saved == pytest.approx(usual.baseline_model_gib - every, rel=0.01), phase
    assert layers.phases_gib["build"] > layers.phases_gib["baseline"], "it was whole before"


def test_attention_that_writes_its_scores_holds_them(compose):
    asked = (*SMALL_FLUX, "resolution=1024", "dtype=float32")
    footprints, cfg = Footprints(), compose(*asked)
    auto, efficient, scores = (
        footprints.of(compose(*asked, f"recipe.attention={name}")).activations
        for name in ("auto", "efficient", "math")
    )
    dims = resolve(cfg.model.dims, sizes_of_call(cfg), "model.dims")
    tokens = dims["image_tokens"] + dims["text_tokens"]
    assert efficient == auto
    assert scores - auto > cfg.model.factory["num_attention_heads"] * tokens**2 * 4


def test_a_vae_that_decodes_tiles_holds_less(compose):
    whole, tiles = (
        Footprints().of(compose(*SMALL_FLUX, "target=pipeline", f"recipe.vae_tiling={on}"))  # 3 x 3 tiles
        for on in ("false", "true")
    )
    assert whole.trouble == tiles.trouble == ""
    assert tiles.activations < whole.activations
    assert tiles.weights == whole.weights
