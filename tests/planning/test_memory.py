"""Footprints and forecasts against what the model itself says; against real runs: test_real_runs.py."""

import pytest
import torch

from src.config.schema.root import RootConf, sizes_of_call
from src.devices.device import GIB
from src.planning.needs.arms import arms_of, keeps_graphs, nothing_fits, reasoned
from src.planning.needs.footprint import Footprints
from src.planning.needs.live import LiveBytes
from src.planning.needs.memory import Forecast, forecast
from src.treatments.layers import capture_layers
from src.workloads.dims import resolve
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

CARD_GIB = 80.0
FLUX = Footprints()


def foretold(cfg: RootConf, footprints: Footprints, kind: str, card_gib: float | None) -> Forecast:
    return forecast(cfg, arms_of(cfg, footprints.of, kind), kind, card_gib)


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL_LINEAR,
        SMALL_FLUX,
        (*SMALL_FLUX, "target=block"),
        (*SMALL_FLUX, "target=linear", "dtype=float32"),
        (*SMALL_FLUX, "recipe.fused_qkv=true"),
    ],
)
def test_a_footprint_is_that_of_the_built_workload(compose, cpu, overrides):
    cfg = compose(*overrides)
    workload = build_workload(cfg, cpu)
    rows, _ = capture_layers(workload)
    found = Footprints().of(cfg)
    assert found.trouble == ""
    assert found.weights == size_bytes(workload.module)
    assert [(row.fqn, row.shape, row.calls, row.name) for row in found.rows] == [
        (row.fqn, row.shape, row.calls, row.name) for row in rows
    ]
    assert found.building >= found.weights + found.inputs + found.activations


def test_a_pipeline_needs_no_vae(compose):
    found = Footprints().of(compose("model=digits", "target=pipeline"))
    assert found.trouble == ""
    assert found.weights > 0
    assert {row.component for row in found.rows} == {"denoiser"}


def test_a_linears_activations_are_its_output(compose):
    found = Footprints().of(compose(*SMALL_LINEAR, "batch=4"))
    assert found.activations == 4 * 16 * 128 * 2
    assert found.inputs == 4 * 16 * 256 * 2


@torch.no_grad()
@pytest.mark.parametrize("overrides", [SMALL_LINEAR, SMALL_FLUX, (*SMALL_FLUX, "target=block", "batch=2")])
def test_a_real_calls_live_tensors_are_those_of_the_fake_one(compose, cpu, overrides):
    cfg = compose(*overrides)
    workload = build_workload(cfg, cpu)
    with LiveBytes() as live:
        workload.call()
    assert Footprints().of(cfg).activations == pytest.approx(live.peak, rel=0.01)


def test_activations_grow_with_the_batch_and_weights_do_not(compose):
    footprints = Footprints()
    one, eight = (footprints.of(compose(*SMALL_FLUX, f"batch={batch}")) for batch in (1, 8))
    assert one.weights == eight.weights
    assert 7 < eight.activations / one.activations < 9


def test_flux_dev_is_known_without_its_24_gb(compose):
    found = FLUX.of(compose("model=flux-dev"))
    assert found.trouble == ""
    assert found.weights / 2 == pytest.approx(11.9e9, rel=0.01)
    assert 0.2 < found.activations / GIB < 5


def test_a_pipeline_has_its_vae_and_both_components_layers(compose):
    found = Footprints().of(compose("model=flux-tiny", "target=pipeline"))
    alone = Footprints().of(compose("model=flux-tiny"))
    assert found.trouble == ""
    assert found.weights > alone.weights
    assert found.activations >= alone.activations
    assert {row.component for row in found.rows} == {"denoiser", "vae"}


def test_guidance_doubles_the_denoisers_batch(compose):
    small = ("model=pixart-sigma", "resolution=256", "model.factory.num_layers=1")
    once, twice, pipeline = (
        Footprints().of(compose(*small, *also)) for also in (["model.guidance=none"], [], ["target=pipeline"])
    )
    rows = {row.name: row.M for row in once.rows}
    assert once.trouble == twice.trouble == pipeline.trouble == ""
    assert all(2 * rows[row.name] == row.M for row in twice.rows)
    assert twice.rows == [row for row in pipeline.rows if row.component == "denoiser"]


def test_what_cannot_be_followed_is_said_and_its_weights_are_known(compose, monkeypatch):
    def data_dependent(self: torch.nn.Module, input: torch.Tensor) -> torch.Tensor:
        return input if input.sum().item() > 0 else -input

    monkeypatch.setattr("torch.nn.Linear.forward", data_dependent)
    found = Footprints().of(compose(*SMALL_LINEAR))
    assert found.weights == 256 * 128 * 2
    assert "DataDependent" in found.trouble


@pytest.mark.parametrize("quant", ["int8wo", "int8dq", "int4wo", "uint3wo", "fp6_e3m2", "nf4"])
def test_the_treated_arm_weighs_what_torchao_makes_of_it(compose, run_context, cpu, quant):
    from src.treatments.layers import capture_layers
    from src.treatments.scheme import make_scheme

    cfg = compose("model=linear", "model.dims={M:4,K:1024,N:1024}", f"quant={quant}")
    scheme, workload = make_scheme(cfg.quant), build_workload(cfg, cpu)
    rows, _ = capture_layers(workload)
    with torch.no_grad():
        scheme.apply(workload, rows, run_context(cfg))
    found = foretold(cfg, Footprints(), "cpu", None)
    assert found.model_gib * GIB == pytest.approx(size_bytes(workload.module), rel=0.05)


def _flux(compose, *overrides: str, card_gib: float | None = CARD_GIB) -> Forecast:
    cfg = compose("model=flux-dev", *overrides)
    return foretold(cfg, FLUX, "cuda", card_gib)


def test_two_arms_that_fit_are_there_at_once(compose):
    both = _flux(compose, "quant=int8wo")
    assert both.together
    assert both.peak_phase == "quantize"
    assert 2 * both.baseline_model_gib < both.peak_gib < 2 * both.baseline_model_gib + 3
    in_turn = _flux(compose, "quant=int8wo", "measure.pairing=in_turn")
    assert not in_turn.together
    assert in_turn.peak_gib < both.peak_gib


def test_on_a_small_card_the_arms_come_in_turn_and_too_much_is_seen(compose):
    found = _flux(compose, "quant=int8wo", card_gib=44.0)
    assert not found.together
    assert not found.exceeds(44.0)
    assert found.exceeds(20.0)
    assert not found.exceeds(None)
    assert found.is_tight(found.peak_gib * 1.05)
    assert not found.is_tight(found.peak_gib * 2)


def test_where_weights_are_quantized_changes_what_the_device_holds(compose):
    device, cpu, streamed = (
        _flux(compose, "quant=int8wo", f"quant.where={where}").phases_gib["quantize"]
        for where in ("device", "cpu", "streamed")
    )
    assert cpu < streamed < device


def test_rules_that_leave_layers_alone_leave_their_weights(compose):
    every, large = (_flux(compose, "quant=int8wo", f"layers={name}") for name in ("all", "large"))
    assert every.model_gib < large.model_gib < every.baseline_model_gib
    assert _flux(compose, "quant=none").model_gib == every.baseline_model_gib
    assert _flux(compose, "quant=autoquant").model_gib == every.baseline_model_gib


def test_cuda_graphs_keep_the_first_arms_activations(compose):
    plain, graphs = (
        _flux(compose, f"compile={name}").phases_gib["treated"] for name in ("default", "reduce-overhead")
    )
    assert graphs > plain
    kept = {name: keeps_graphs(compose(f"compile={name}").compile, "cuda") for name in (
        "none", "default", "regional", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")}  # fmt: skip
    assert [name for name, keeps in kept.items() if keeps] == ["reduce-overhead", "max-autotune"]
    assert not keeps_graphs(compose("compile=reduce-overhead").compile, "cpu")


def test_fused_projections_lie_beside_those_they_replace(compose):
    plain, fused = (_flux(compose, f"recipe.fused_qkv={value}") for value in ("false", "true"))
    assert fused.baseline_model_gib > 1.1 * plain.baseline_model_gib
    assert _flux(compose).baseline_model_gib == plain.baseline_model_gib, "the shared model is as it was"


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
    found = _flux(compose, *H200, *overrides, card_gib=139.8)
    assert found.baseline_model_gib == pytest.approx(seen["baseline_model"], rel=0.005)
    assert found.model_gib == pytest.approx(seen["model"], rel=0.005)
    for phase in ("baseline", "quantize"):
        assert found.phases_gib[phase] == pytest.approx(seen[phase], rel=0.03), phase


def test_a_recipe_that_is_the_treatment_is_not_the_baselines(compose):
    one, both = (_flux(compose, *asked, "recipe.fused_qkv=true", "quant=none") for asked in (
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
    alone, both = (_flux(compose, *asked, f"treatment=[{key}]").phases_gib for key in (
        "recipe.cuda_graphs", "quant"))  # fmt: skip
    activations = FLUX.of(compose("model=flux-dev")).activations / GIB
    assert both["treated"] - alone["treated"] == pytest.approx(activations)
    assert both["quantize"] - alone["quantize"] == pytest.approx(activations)


def test_a_quantized_baseline_is_made_in_place_of_the_unquantized_model(compose):
    layers, usual = (_flux(compose, "quant=int8wo", "layers=large", *asked) for asked in (
        ["treatment=[quant.layers]"], []))  # fmt: skip
    every = _flux(compose, "quant=int8wo", "layers=all").model_gib
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
        Footprints().of(
            compose("model=flux-tiny", "target=pipeline", "resolution=512", f"recipe.vae_tiling={on}")
        )
        for on in ("false", "true")
    )
    assert whole.trouble == tiles.trouble == ""
    assert tiles.activations < whole.activations
    assert tiles.weights == whole.weights


def test_a_serialization_holds_one_model(compose):
    found = _flux(compose, "task=serialize")
    assert not found.together
    assert "baseline" not in found.phases_gib


def test_no_layer_that_fits_is_a_reason(compose):
    cfg = compose("model=flux-tiny", "quant.layers.min_side=4096")
    rows = reasoned(FLUX.of(cfg), cfg.quant, "cpu")
    assert "a side below quant.layers.min_side=4096" in nothing_fits(rows, cfg.quant, "cpu")[0]
    assert nothing_fits(rows, compose("quant=none").quant, "cpu") == ("", "")
