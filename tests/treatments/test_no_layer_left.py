"""Group sizes, alignments and filters that leave no layer: never quantized nothing without a word."""

import json
from dataclasses import replace

import pytest

from src.config.schema.model import InputConf
from src.planning.matrix import Fate
from src.planning.planning import plan_runs
from src.records.record import Outcome
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

FLUX = (*SMALL_FLUX, "resolution=64")


@pytest.mark.parametrize(
    ("overrides", "reasons", "remedy"),
    [
        (("quant=int4dq", "quant.group_size=48"), ["K=512 is not a multiple of 48"], "quant.group_size=64: "),
        (
            ("quant=uint4wo", "quant.group_size=96"),
            ["K=512 is not a multiple of 96"],
            "quant.group_size=64: ",
        ),
        (("quant=nvfp4wo", "quant.requires.n_multiple=7"), ["is not a multiple of 7"], "--list says"),
        (("quant.layers.include=[nothing]",), ["not in quant.layers.include"], "layers=all: layers.json"),
        (("quant.layers.exclude=['.*']",), ["quant.layers.exclude: .*"], "layers=all: layers.json"),
        (("quant.layers.min_m=4096",), ["M below quant.layers.min_m=4096"], "layers=all: layers.json"),
        (("quant=autoquant", "quant.layers.min_side=9999"), ["a side below"], "layers=all: layers.json"),
        (
            ("quant=int4dq", "quant.group_size=48", "quant.layers.exclude=[ff]"),
            ["quant.layers.exclude: ff", "K=512 is not a multiple of 48"],
            "quant.group_size=64: ",
        ),
        (
            ("quant=int8wo", "quant.where=streamed", "quant.layers.include=[nothing]"),
            ["not in quant.layers.include"],
            "layers=all",
        ),
    ],
)
def test_a_run_without_a_layer_is_unsupported_and_says_which_and_why(
    compose, execute_run, tmp_path, overrides, reasons, remedy
):
    record = execute_run(compose(*FLUX, *overrides))
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    rows = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert f"none of the {len(rows)} Linear layers (" in record.reason
    assert [reason for reason in reasons if reason not in record.reason] == []
    assert remedy in record.remedy
    assert all(row["reason"] and not row["scheme"] for row in rows)


def test_the_group_size_that_is_named_does_fit(compose, execute_run):
    at_fault = compose(*SMALL_LINEAR, "model.dims.K=192", "quant=int4wo")
    found = execute_run(at_fault)
    assert (found.outcome, found.remedy.partition(":")[0]) == (Outcome.UNSUPPORTED, "quant.group_size=64")
    assert execute_run(
        compose(*SMALL_LINEAR, "model.dims.K=192", "quant=int4wo", "quant.group_size=64")
    ).outcome is (Outcome.OK)


def test_a_filter_that_takes_every_layer_is_no_filter(compose, execute_run):
    all_of_them = execute_run(compose(*FLUX, "quant.layers.include=['.*']"))
    assert all_of_them.outcome is Outcome.OK, all_of_them.reason
    assert all_of_them.details["warnings"] == []
    by_default = execute_run(compose(*FLUX))
    assert all_of_them.metrics["quantize/layers"] == by_default.metrics["quantize/layers"] > 20


def test_autoquant_without_a_candidate_for_the_device_says_what_would_run_them(compose, execute_run):
    but_float8 = [
        f"~quant.candidates.{name}" for name in ("int8wo", "int8dq", "float8wo", "float8_e4m3_row", "int4wo")
    ]
    record = execute_run(compose(*SMALL_LINEAR, "quant=autoquant", *but_float8))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "no candidate of float8dq runs on" in record.reason
    assert "float8 tensor cores" in record.remedy


ATTENTION = {"_target_": "torch.nn.MultiheadAttention", "embed_dim": 64, "num_heads": 4}


@pytest.mark.parametrize("quant", ["int8wo", "autoquant"])
def test_a_model_that_calls_no_linear_is_told_so_by_the_run_and_by_its_plan(
    compose, execute_run, tmp_path, quant
):
    """Attention of torch.nn uses the weight of its Linear layer, which it does not call."""
    cfg = compose("model=linear", f"quant={quant}", f"outputs={tmp_path}")
    inputs = {name: InputConf(shape=["batch", 8, 64]) for name in ("query", "key", "value")}
    cfg = replace(cfg, model=replace(cfg.model, factory=ATTENTION, inputs=inputs, dims={}, probe=False))
    record = execute_run(cfg)
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    assert record.reason == f"{quant} quantizes Linear layers, and the target calls none"
    assert "quant=none" in record.remedy
    assert "MultiheadAttention" in record.remedy
    (run,) = plan_runs([cfg]).runs
    assert (run.fate, run.reason, run.remedy) == (Fate.UNSUPPORTED, record.reason, record.remedy)
