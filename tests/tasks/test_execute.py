"""Runs from configuration to record.json, in this process."""

import json
import math
from dataclasses import replace
from datetime import datetime

import pytest
import torch
from torch import nn

from src.compilation.scopes import CompilerCounts, FirstCall
from src.devices.device import GIB
from src.measurement.memory import Peaks
from src.records.environment import environment, of_torch
from src.records.record import Outcome, read_record
from src.run import execute
from src.tasks.arms.arm import Arm
from src.tasks.arms.untreated import build
from src.tasks.conclusions.metrics import compile_metrics, memory_metrics
from src.treatments.scheme import Unquantized
from src.workloads.model import build_model
from tests.conftest import SMALL_FLUX, SMALL_LINEAR, identity, synthetic_rounds
from tests.treatments.conftest import LiveBytes

HERE = __name__


class Poison(Unquantized):
    """A treatment that breaks the numbers."""

    def apply(self, workload, rows, run):
        with torch.no_grad():
            next(workload.module.parameters()).fill_(float("nan"))


class Broken(nn.Linear):
    """A baseline without numbers."""

    def forward(self, input):
        return super().forward(input) * float("nan")


def fail(run):
    with run.phase("half way"):
        run.record.metrics["speedup/ratio"] = 2.0
        run.record.verdict = "helps"
        raise KeyError("a bug")


def allocate(run):
    torch.empty(2**60, dtype=torch.uint8)


def not_a_number(run):
    run.record.outcome, run.record.verdict = Outcome.OK, "helps"
    run.record.metrics["speedup/ratio"] = float("nan")


def test_building_keeps_no_layer_s_input(compose, run_context):
    cfg = compose("model=linear", "model.dims.M=4096", "model.dims.K=256", "model.dims.N=1024")
    with LiveBytes() as live:
        build(run_context(cfg))
    weights, inputs, outputs = 2 * 1024 * 256, 2 * 4096 * 256, 2 * 4096 * 1024
    assert live.peak == pytest.approx(weights + inputs + outputs, abs=inputs / 4)


def test_weights_carried_to_a_node_without_a_network(compose, execute_run, tmp_path):
    """docs/airgapped.md; HF_HUB_OFFLINE is set for all tests."""
    original = build_model(compose(*SMALL_FLUX).model, torch.device("cpu"), torch.bfloat16, seed=3)
    original.save_pretrained(tmp_path / "carried" / "transformer")
    weights = ("source=local", f"id={tmp_path / 'carried'}", "subfolder=transformer")
    cfg = compose(
        *SMALL_FLUX, "resolution=64", "quant=int8wo", *(f"model.weights.{each}" for each in weights)
    )
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quality/sqnr_db"] > 10


@pytest.mark.parametrize(
    ("overrides", "outcome", "reason"),
    [
        (("quant=int8wo",), Outcome.OK, None),
        (("quant=none",), Outcome.OK, None),
        (("gpu=h100",), Outcome.UNSUPPORTED, "gpu=h100: no CUDA device on this machine"),
        (("quant=float8dq",), Outcome.UNSUPPORTED, "float8dq needs a cuda device"),
        (("quant=int4wo", "model.dims.K=192"), Outcome.UNSUPPORTED, "K=192 is not a multiple of 128"),
        (
            ("quant=none", "dtype=float16", f"quant._target_={HERE}.Poison"),
            Outcome.BAD_NUMERICS,
            "treated output",
        ),
        (
            ("quant=none", f"model.factory._target_={HERE}.Broken"),
            Outcome.BAD_NUMERICS,
            "unquantized baseline itself",
        ),
        (("model.dims.M=1000000000000",), Outcome.OOM, "can't allocate memory"),
        ((f"task._target_={HERE}.allocate",), Outcome.OOM, "can't allocate memory"),
        ((f"task._target_={HERE}.fail",), Outcome.FAILED, "KeyError: 'a bug'"),
        (
            ("model.weights.source=local", "model.weights.id=x"),
            Outcome.FAILED,
            "Linear has no from_pretrained",
        ),
        (("model.inputs.input.shape=[batch, tokens]",), Outcome.FAILED, "no dimension 'tokens'"),
        ((f"task._target_={HERE}.not_a_number",), Outcome.FAILED, "speedup/ratio"),
        (("task._target_=no.such.task",), Outcome.FAILED, "no.such.task"),
        (("compile=default", "compile.backend=no_such_backend"), Outcome.COMPILE_ERROR, "no_such_backend"),
    ],
)
def test_whatever_happens_becomes_a_record(compose, execute_run, overrides, outcome, reason):
    given = {override.split("=")[0] for override in overrides}
    cfg = compose(*(o for o in SMALL_LINEAR if o.split("=")[0] not in given), *overrides)
    record = execute_run(cfg)
    assert record.outcome is outcome, record.reason
    assert bool(record.verdict) == (outcome is Outcome.OK)
    if reason is not None:
        assert reason in record.reason
        assert "\n" not in record.reason
    if outcome is Outcome.UNSUPPORTED and "gpu=h100" in overrides:
        assert "gpu=cpu" in record.remedy
    assert torch.__version__.startswith(record.environment["torch"])  # PyPI's CUDA build adds +cu130 itself
    assert datetime.fromisoformat(record.finished_at).tzinfo is not None


def test_a_failure_leaves_its_traceback_and_what_was_known(compose, execute_run, capsys):
    record = execute_run(compose(*SMALL_LINEAR, f"task._target_={HERE}.fail"))
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert 'raise KeyError("a bug")' in printed
    assert record.verdict == ""
    assert "half way" in record.phases_s
    assert record.device["kind"] == "cpu"


def test_what_a_run_of_one_linear_records(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "batch=2"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.shape == {"M": 32, "K": 256, "N": 128}
    assert record.device["threads"] == 1
    assert record.details["pairing"] == "interleaved"
    assert record.details["stop_reason"] == "max_pairs"
    assert set(record.phases_s) >= {
        "build",
        "compile baseline",
        "compile treated",
        "memory",
        "quantize",
        "measure",
    }
    metrics = record.metrics
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["speedup/pairs"] == 8
    assert metrics["speedup/ci_low"] <= metrics["speedup/ratio"] <= metrics["speedup/ci_high"]
    assert metrics["latency/p10_ms"] <= metrics["latency/median_ms"] <= metrics["latency/p90_ms"]
    assert metrics["throughput/samples_per_s"] == pytest.approx(2 * metrics["throughput/calls_per_s"])
    assert metrics["throughput/calls_per_s"] == pytest.approx(1e3 / metrics["latency/median_ms"])
    assert metrics["memory/baseline_model_gib"] == 256 * 128 * 2 / 2**30
    assert 0.45 < metrics["memory/model_gib"] / metrics["memory/baseline_model_gib"] < 0.55
    assert metrics["quantize/layers"] == 1
    assert metrics["quantize/time_s"] > 0
    assert metrics["quality/sqnr_db"] > 35

    folder = tmp_path / "run"
    rounds = json.loads((folder / "rounds.json").read_text())
    assert len(rounds["baseline_ms"]) == len(rounds["treated_ms"]) == 8
    assert rounds["order"] == ["AB", "BA"] * 4
    (layer,) = json.loads((folder / "layers.json").read_text())
    assert (layer["fqn"], layer["scheme"]) == ("inner", "int8wo")
    assert not (folder / "plan.json").exists()


def test_what_a_run_of_a_model_records(compose, execute_run, tmp_path):
    overrides = (
        "quant=int8wo",
        "compile=regional",
        "compile.backend=aot_eager",
        "measure.warm_compile=false",
        "dtype=float32",
    )
    record = execute_run(compose(*SMALL_FLUX, *overrides))
    assert record.outcome is Outcome.OK, record.reason
    assert record.shape == {}
    assert record.metrics["compile/graph_breaks"] == 0
    assert record.metrics["compile/recompiles"] == 0
    assert record.metrics["quality/sqnr_db"] > 25
    layers = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert len(layers) == record.metrics["quantize/layers"] > 20


def test_an_a_a_run_has_equal_outputs(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=none"))
    assert record.metrics["quality/max_abs_error"] == 0
    assert record.metrics["quantize/layers"] == 0
    assert record.metrics["memory/model_gib"] == record.metrics["memory/baseline_model_gib"]


@pytest.mark.parametrize(
    ("speedup", "verdict"),
    [(1.0, "neutral"), (1.5, "helps"), (0.7, "hurts")],
)
def test_the_verdict_comes_from_the_rounds(compose, execute_run, monkeypatch, speedup, verdict):
    monkeypatch.setattr(
        "src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(speedup)
    )
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert (record.verdict, record.reason) == (verdict, "")
    assert record.metrics["speedup/ratio"] == pytest.approx(speedup, rel=1e-3)


def test_an_inconclusive_run_says_why_and_what_to_do(compose, execute_run, monkeypatch):
    monkeypatch.setattr(
        "src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(1.02, spread=0.05)
    )
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert (record.outcome, record.verdict) == (Outcome.OK, "inconclusive")
    assert "crosses the margin of 2%" in record.reason
    assert "40 pairs" in record.reason
    assert "measure.budget_s" in record.remedy


def test_a_busy_machine_gives_no_verdict(compose, execute_run, monkeypatch, quiet_machine):
    monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(1.5))
    quiet_machine.foreign_cpus = 0.8
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert (record.outcome, record.verdict) == (Outcome.OK, "inconclusive")
    assert "other processes used 0.8 of 1 CPUs while 1 threads" in record.reason
    assert "the same command" in record.remedy
    assert record.metrics["load/foreign_cpus"] == 0.8
    assert record.metrics["speedup/ratio"] == pytest.approx(1.5, rel=1e-3)


def test_what_does_not_fit_twice_is_measured_in_turn(compose, execute_run, monkeypatch):
    monkeypatch.setattr("src.tasks.arms.untreated.fits_twice", lambda *_: False)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["pairing"] == "in_turn"


@pytest.mark.parametrize(
    ("first", "fits", "pairing", "says"),
    [
        ("in_turn", True, "in_turn", ""),
        ("interleaved", True, "interleaved", ""),
        ("interleaved", False, "in_turn", "process 2: both arms no longer fitted in memory"),
    ],
)
def test_a_further_process_takes_its_arms_as_the_first_did(
    compose, execute_run, monkeypatch, first, fits, pairing, says
):
    """What is free at the moment decides in the first alone, as long as they fit."""
    monkeypatch.setattr("src.tasks.arms.untreated.fits_twice", lambda *_: fits)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"), pairing=first)
    assert (record.outcome, record.details["pairing"]) == (Outcome.OK, pairing), record.reason
    assert says in record.reason
    assert ("no longer fitted" in record.reason) == bool(says)


def test_a_broken_clock_fails_the_run(compose, execute_run, monkeypatch):
    monkeypatch.setattr("src.timers.timer.RoundTimer._host", lambda *_: 0.0)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert record.outcome is Outcome.FAILED
    assert "must be finite and positive" in record.reason


def test_phases_are_told(compose, tmp_path):
    cfg, heard = compose(*SMALL_LINEAR, "quant=int8wo"), []
    execute(cfg, identity(cfg), tmp_path, heard.append)
    assert heard[0] == "build"
    assert heard.index("compile baseline") < heard.index("quantize") < heard.index("compile treated")
    assert heard[-1] == "measure"
    assert read_record(tmp_path / "record.json").outcome is Outcome.OK


# ---- metrics of memory


def arm_of(name, peak_gib, model_gib):
    peaks, compiling = Peaks({"rss": peak_gib}), Peaks({"rss": peak_gib + 0.5})
    return Arm(name, None, None, peaks, compiling, None, round(model_gib * GIB))


def test_what_the_baseline_holds_is_not_the_treatments(cpu):
    baseline, treated = arm_of("baseline", 3.0, 2.0), arm_of("treated", 4.0, 1.0)
    assert memory_metrics(baseline, treated, beside_bytes=2 * GIB, device=cpu) == {
        "memory/baseline_model_gib": 2.0,
        "memory/model_gib": 1.0,
        "memory/baseline_peak_rss_gib": 3.0,
        "memory/peak_rss_gib": 2.0,
        "memory/baseline_compile_peak_gib": 3.5,
        "memory/compile_peak_gib": 2.5,
    }


@pytest.mark.parametrize(("pairing", "held"), [("interleaved", 256 * 128 * 2), ("in_turn", 0)])
def test_the_baseline_is_held_only_when_arms_alternate(compose, execute_run, monkeypatch, pairing, held):
    asked = []

    def spy(baseline, treated, beside_bytes, device):
        asked.append(beside_bytes)
        return {}

    monkeypatch.setattr("src.tasks.conclusions.told.memory_metrics", spy)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", f"measure.pairing={pairing}"))
    assert (record.outcome, asked) == (Outcome.OK, [held])


# ---- metrics of the compiler


def call(seconds, hits, misses):
    return FirstCall(seconds, cache_hits=hits, cache_misses=misses)


@pytest.mark.parametrize(
    ("first", "again", "expected"),
    [
        (call(9.0, 0, 2), call(1.0, 2, 0), {"cold_s": 9.0, "warm_s": 1.0}),
        (call(9.0, 0, 2), None, {"cold_s": 9.0}),
        (call(9.0, 0, 2), call(8.0, 1, 1), {"cold_s": 9.0}),  # what the cache does not take is no warm call
        (call(1.0, 2, 0), None, {"warm_s": 1.0}),
        (replace(call(1.0, 2, 0), ahead_s=8.0), None, {"cold_s": 8.0, "warm_s": 1.0}),
        (call(0.1, 0, 0), None, {}),
    ],
)
def test_cold_and_warm(first, again, expected):
    metrics = compile_metrics({"": (first, again)}, CompilerCounts(3, 1, 2, 4), recompiles=5)
    counts = {"graph_breaks": 1.0, "recompiles": 5.0, "cache_hits": 2.0, "cache_misses": 4.0}
    assert metrics == {f"compile/{name}": value for name, value in (counts | expected).items()}


def test_a_record_says_what_of_torch_was_loaded_in_its_run(compose, execute_run, monkeypatch):
    """Where a run begins on a node nothing has loaded torch yet."""
    whole = environment()
    before = {name: value for name, value in whole.items() if name not in of_torch()}
    monkeypatch.setattr("src.records.environment.environment", lambda: dict(before))
    record = execute_run(compose(*SMALL_LINEAR, f"task._target_={HERE}.fail"))
    assert {name: record.environment.get(name) for name in of_torch()} == of_torch() != {}
