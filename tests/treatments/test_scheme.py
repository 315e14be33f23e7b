import dataclasses

import pytest
import torch
import torch._inductor.config as inductor_config

from src.outcomes import RunEndedError
from src.quality.sqnr import compare
from src.records.record import Outcome
from src.treatments.applied import quantize_layers
from src.treatments.layers import capture_layers, is_quantized
from src.treatments.scheme import make_scheme
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX

LINEAR = ("model=linear", "model.dims.M=64", "model.dims.K=512", "model.dims.N=256")
BLOCK = (*SMALL_FLUX, "target=block")
BLOCK_LAYERS = 14  # Linears of a Flux transformer block


@dataclasses.dataclass
class Treated:
    """What became of a workload: its layer table, quality metrics and the weights' bits per value."""

    rows: list
    quality: dict
    bits: float
    workload: object


@pytest.fixture
def treat(compose, cpu, run_context):
    """treat(*overrides): build, quantize with real kernels, compare."""

    @torch.no_grad()
    def treated(*overrides):
        cfg = compose(*overrides)
        run = run_context(cfg)
        baseline = build_workload(cfg, cpu)
        rows, _ = capture_layers(baseline)
        workload = baseline.twin()
        scheme = make_scheme(cfg.quant)
        scheme.check(cpu, cfg.dtype)
        scheme.apply(workload, rows, run)
        values = sum(p.numel() for p in baseline.module.parameters())
        return Treated(
            rows,
            compare(baseline.call(), workload.call()),
            8 * size_bytes(workload.module) / values,
            workload,
        )

    return treated


@pytest.mark.parametrize(
    ("quant", "sqnr_db", "bits"),
    [
        ("int8wo", (36, 50), 8.1),
        ("int8dq", (30, 50), 8.1),
        ("float8wo", (23, 33), 8.1),
        ("int4wo", (15, 25), 4.3),
    ],
)
def test_output_is_close_and_weights_are_small(treat, quant, sqnr_db, bits):
    treated = treat(*LINEAR, f"quant={quant}")
    low, high = sqnr_db
    assert low < treated.quality["quality/sqnr_db"] < high
    assert treated.quality["quality/cosine"] > 0.98
    assert bits - 0.2 < treated.bits < bits + 0.1
    (row,) = treated.rows
    assert (row.scheme, row.reason) == (quant, "")


@pytest.mark.parametrize("quant", ["int8wo", "int8dq", "float8wo", "int4wo"])
def test_layer_table_of_a_block_agrees_with_its_weights(treat, quant):
    treated = treat(*BLOCK, f"quant={quant}")
    assert len(treated.rows) == BLOCK_LAYERS
    for row in treated.rows:
        quantized = is_quantized(treated.workload.module.get_submodule(row.fqn))
        assert (row.scheme == quant) == quantized
        assert bool(row.scheme) != bool(row.reason)
    assert all(row.scheme for row in treated.rows)
    assert treated.quality["quality/sqnr_db"] > 12


@pytest.mark.parametrize("quant", ["int8wo", "int8dq", "float8wo", "int4wo"])
def test_inductor_settings_stay_as_they_were(treat, quant):
    before = inductor_config.save_config_portable()
    treat(*LINEAR, f"quant={quant}")
    assert inductor_config.save_config_portable() == before


def test_unquantized_leaves_everything_alone(treat):
    treated = treat(*LINEAR, "quant=none")
    assert [(row.scheme, row.reason) for row in treated.rows] == [("", "quant=none")]
    assert treated.bits == 16
    assert "quality/sqnr_db" not in treated.quality


@pytest.mark.parametrize(
    ("overrides", "taken"),
    [
        (("quant.layers.include=[attn]",), lambda row: "attn" in row.fqn),
        (("quant.layers.exclude=[attn]",), lambda row: "attn" not in row.fqn),
        (
            ("quant.layers.include=[ff]", "quant.layers.exclude=[context]"),
            lambda row: "ff" in row.fqn and "context" not in row.fqn,
        ),
        (("quant.requires.n_multiple=512",), lambda row: row.N % 512 == 0),
    ],
)
def test_filters(treat, overrides, taken):
    rows = treat(*BLOCK, "quant=int8wo", *overrides).rows
    assert {row.fqn for row in rows if row.scheme} == {row.fqn for row in rows if taken(row)}
    assert 0 < sum(bool(row.scheme) for row in rows) < len(rows)
    assert all(row.reason for row in rows if not row.scheme)


def test_a_group_size_that_fits_some_layers(treat):
    rows = treat(*SMALL_FLUX, "quant=int4wo").rows
    assert {row.fqn: row.reason for row in rows if not row.scheme} == {
        "x_embedder": "K=64 is not a multiple of 128"
    }


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ("quant=int4wo", "model.dims.K=192"),
            "fits none of the 1 Linear layers (1 x K=192 is not a multiple of 128: inner)",
        ),
        (
            ("quant=int4wo", "quant.group_size=96"),
            "takes group sizes 32, 64, 128; this is quant.group_size=96",
        ),
        (
            ("quant=int8wo", "quant.layers.include=[nothing]"),
            "fits none of the 1 Linear layers (1 x not in quant",
        ),
        (("quant=int8wo", "quant.layers.min_side=300"), "a side below quant.layers.min_side=300"),
        (("quant=float8dq",), "float8dq needs a cuda device, compute capability >= 8.9; this is"),
        (("quant=int8wo", "+quant.config.group_size=32"), "torchao refuses"),
    ],
)
def test_what_cannot_be_applied_says_why(treat, overrides, reason):
    with pytest.raises(RunEndedError) as caught:
        treat(*LINEAR, *overrides)
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    "override",
    [
        "+quant.config.no_such_argument=1",
        "quant.config._target_=torchao.quantization.Int1Config",
        "+quant.config.granularity={_target_: torchao.quantization.PerNothing}",
    ],
)
def test_a_misspelled_torchao_config_is_a_mistake_and_no_finding(execute_run, compose, override):
    record = execute_run(compose(*LINEAR, "quant=int8wo", override))
    assert record.outcome is Outcome.FAILED
    assert "quant.config of int8wo" in record.reason


LIFTED = "quant.per_device.cpu.requires.k_multiple=1"  # so torchao itself finds that K does not fit: it logs at INFO


def test_torchao_that_skips_every_layer_is_found_out(treat):
    with pytest.raises(RunEndedError, match="torchao left all 1 selected layers alone"):
        treat("model=linear", "model.dims.M=8", "model.dims.K=192", "model.dims.N=64", "quant=int4wo", LIFTED)


def test_a_layer_that_torchao_skips_has_its_reason(treat):
    rows = treat(*SMALL_FLUX, "quant=int4wo", LIFTED).rows
    assert {row.fqn: row.reason for row in rows if not row.scheme} == {"x_embedder": "torchao left it alone"}


@torch.no_grad()
def test_schemes_can_be_mixed_by_layer(compose, cpu):
    cfg = compose(*BLOCK)
    baseline = build_workload(cfg, cpu)
    workload = baseline.twin()
    rows, _ = capture_layers(workload)
    names = ["int8wo", "int8dq", "float8wo", "int4wo"]
    configs = {name: make_scheme(compose(f"quant={name}").quant).torchao_config(cpu) for name in names}
    chosen = {row.fqn: names[i % 5] for i, row in enumerate(rows) if i % 5 < 4}
    quantize_layers(workload.module, {fqn: (name, configs[name]) for fqn, name in chosen.items()}, rows)

    assert {row.fqn: row.scheme for row in rows if row.scheme} == chosen
    stored = {
        name: {type(workload.module.get_submodule(fqn).weight) for fqn in chosen if chosen[fqn] == name}
        for name in names
    }
    assert all(len(types) == 1 for types in stored.values())
    assert len(set.union(*stored.values())) == 3  # both int8 schemes store the same type
    untouched = [row.fqn for row in rows if not row.scheme]
    assert untouched
    assert not any(is_quantized(workload.module.get_submodule(fqn)) for fqn in untouched)
    assert compare(baseline.call(), workload.call())["quality/sqnr_db"] > 12
