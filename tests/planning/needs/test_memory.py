"""Footprints and forecasts against what the model itself says; against real runs: test_real_runs.py."""

import pytest
import torch

from src.config.schema.root import RootConf
from src.devices.device import GIB
from src.planning.needs.arms import arms_of, keeps_graphs, nothing_fits, reasoned
from src.planning.needs.footprint import Footprints
from src.planning.needs.live import LiveBytes
from src.planning.needs.memory import Forecast, forecast
from src.treatments.layers import capture_layers
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

CARD_GIB = 80.0
FLUX = Footprints()


def predicted(cfg: RootConf, footprints: Footprints, kind: str, card_gib: float | None) -> Forecast:
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
    found = predicted(cfg, Footprints(), "cpu", None)
    assert found.model_gib * GIB == pytest.approx(size_bytes(workload.module), rel=0.05)


def flux(compose, *overrides: str, card_gib: float | None = CARD_GIB) -> Forecast:
    cfg = compose("model=flux-dev", *overrides)
    return predicted(cfg, FLUX, "cuda", card_gib)


def test_two_arms_that_fit_are_there_at_once(compose):
    both = flux(compose, "quant=int8wo")
    assert both.together
    assert both.peak_phase == "quantize"
    assert 2 * both.baseline_model_gib < both.peak_gib < 2 * both.baseline_model_gib + 3
    in_turn = flux(compose, "quant=int8wo", "measure.pairing=in_turn")
    assert not in_turn.together
    assert in_turn.peak_gib < both.peak_gib


def test_on_a_small_card_the_arms_come_in_turn_and_too_much_is_seen(compose):
    found = flux(compose, "quant=int8wo", card_gib=44.0)
    assert not found.together
    assert not found.exceeds(44.0)
    assert found.exceeds(20.0)
    assert not found.exceeds(None)
    assert found.is_tight(found.peak_gib * 1.05)
    assert not found.is_tight(found.peak_gib * 2)


def test_where_weights_are_quantized_changes_what_the_device_holds(compose):
    device, cpu, streamed = (
        flux(compose, "quant=int8wo", f"quant.where={where}").phases_gib["quantize"]
        for where in ("device", "cpu", "streamed")
    )
    assert cpu < streamed < device


def test_rules_that_leave_layers_alone_leave_their_weights(compose):
    every, large = (flux(compose, "quant=int8wo", f"layers={name}") for name in ("all", "large"))
    assert every.model_gib < large.model_gib < every.baseline_model_gib
    assert flux(compose, "quant=none").model_gib == every.baseline_model_gib
    assert flux(compose, "quant=autoquant").model_gib == every.baseline_model_gib


def test_cuda_graphs_keep_the_first_arms_activations(compose):
    plain, graphs = (
        flux(compose, f"compile={name}").phases_gib["treated"] for name in ("default", "reduce-overhead")
    )
    assert graphs > plain
    kept = {name: keeps_graphs(compose(f"compile={name}").compile, "cuda") for name in (
        "none", "default", "regional", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")}  # fmt: skip
    assert [name for name, keeps in kept.items() if keeps] == ["reduce-overhead", "max-autotune"]
    assert not keeps_graphs(compose("compile=reduce-overhead").compile, "cpu")
    other = compose("compile=reduce-overhead", "compile.backend=aot_eager").compile
    assert not keeps_graphs(other, "cuda")  # the mode is inductor's own


def test_fused_projections_lie_beside_those_they_replace(compose):
    plain, fused = (flux(compose, f"recipe.fused_qkv={value}") for value in ("false", "true"))
    assert fused.baseline_model_gib > 1.1 * plain.baseline_model_gib
    assert flux(compose).baseline_model_gib == plain.baseline_model_gib, "the shared model is as it was"


def test_a_serialization_holds_one_model(compose):
    found = flux(compose, "task=serialize")
    assert not found.together
    assert "baseline" not in found.phases_gib


def test_no_layer_that_fits_is_a_reason(compose):
    cfg = compose("model=flux-tiny", "quant.layers.min_side=4096")
    rows = reasoned(FLUX.of(cfg), cfg.quant, "cpu")
    assert "a side below quant.layers.min_side=4096" in nothing_fits(rows, cfg.quant, "cpu")[0]
    assert nothing_fits(rows, compose("quant=none").quant, "cpu") == ("", "")
