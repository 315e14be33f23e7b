"""quant=regime: a plan by the rules alone, which is looked at for its outputs and then measured."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product

import pytest

from src.autoquant.plan import read_plan
from src.forecasts.models.asking import Rules
from src.records.key import axes_of
from src.records.record import Outcome, Record
from src.records.store import run_folder
from src.statistics.speedup import SpeedupEstimate, verdict
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

SPEEDUPS = {"int8wo": 1.5, "float8wo": 0.5}
SHORT = ("measure.budget_s=0.1",)


@pytest.fixture
def here(monkeypatch):
    """The rules are asked in this process, and no trial is timed."""
    monkeypatch.setattr("src.forecasts.models.asking.fork_server", lambda: None)
    monkeypatch.setattr(
        "src.forecasts.models.asking.ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count)
    )
    monkeypatch.setattr("src.autoquant.trials.measure_jointly", None)


@pytest.fixture
def known(compose, cpu, tmp_path):
    """known(*sides, speedups): runs of single layers on this CPU, of these sides; returns the words of a run."""

    def recorded(*sides, speedups=SPEEDUPS):
        axes = {quant: axes_of(compose("model=linear", f"quant={quant}")) for quant in speedups}
        for number, (quant, m, k) in enumerate(product(speedups, (1, 64, 512), sides)):
            ratio, low, high = (speedups[quant] * factor for factor in (1, 0.99, 1.01))
            said = verdict(SpeedupEstimate(ratio, low, high, 20, block_length=1), 0.02)
            record = Record(f"{number:016x}", 1, "sweep", axes[quant], Outcome.OK, said)
            record.device, record.shape = cpu.as_dict(), {"M": m, "K": k, "N": k}
            record.started_at = record.finished_at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
            ms = 0.01 + m * k * k / 1e9
            record.metrics = {
                "speedup/ratio": ratio, "speedup/ci_low": low, "speedup/ci_high": high, "speedup/pairs": 20.0,
                "latency/baseline_median_ms": ms, "latency/median_ms": ms / ratio,
            }  # fmt: skip
            record.write(run_folder(tmp_path / "outputs", record.run_key, 1))
        return f"outputs={tmp_path / 'outputs'}", "quant=regime", *SHORT

    return recorded


def test_each_shape_gets_what_is_surely_predicted_to_gain(here, known, compose, execute_run, tmp_path):
    words = known(64, 256, 1024)
    record = execute_run(compose(*SMALL_FLUX, *words))
    assert record.outcome is Outcome.OK, record.reason
    plan = read_plan(tmp_path / "run" / "plan.json")
    assert {choice.scheme for choice in plan.choices} == {"int8wo"}
    trials = {trial.scheme: trial for trial in plan.choices[0].trials}
    assert (trials["int8wo"].outcome, trials["float8wo"].outcome) == ("predicted", "predicted")
    assert 1 < trials["int8wo"].ci_low < 1.5 < trials["int8wo"].ci_high
    assert trials["int8wo"].sqnr_db > 30
    assert "no cell of float8dq was measured" in trials["float8dq"].reason
    told = record.details["regime"]
    assert told["shapes"] == {"quantized": len(plan.choices)}
    assert told["predicted"]["verdict"] == "helps"
    assert told["came"] == {
        "verdict": record.verdict, "speedup": record.metrics["speedup/ratio"],
        "low": record.metrics["speedup/ci_low"], "high": record.metrics["speedup/ci_high"],
    }  # fmt: skip
    assert record.metrics["regime/predicted_low"] < record.metrics["regime/predicted_speedup"] < 1.5
    assert "autoquant/predicted_speedup" not in record.metrics

    kept = (tmp_path / "run" / "plan.json").rename(tmp_path / "kept.json")
    again = execute_run(
        compose(*SMALL_FLUX, "outputs=/nowhere", "quant=regime", *SHORT, f"quant.plan={kept}")
    )
    assert again.metrics["quantize/layers"] == record.metrics["quantize/layers"] > 20
    assert "regime" not in again.details
    by_trials = execute_run(compose(*SMALL_FLUX, "quant=autoquant", *SHORT, f"quant.plan={kept}"))
    assert by_trials.metrics["quantize/layers"] == record.metrics["quantize/layers"]


def test_shapes_of_which_nothing_is_known_stay_as_they_are(here, known, compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_FLUX, *known(64, 128)))
    reasons = {row["reason"] for row in json.loads((tmp_path / "run" / "layers.json").read_text())}
    assert any(why.startswith("unknown: ") and "beyond the 64-128 measured" in why for why in reasons)
    told = record.details["regime"]["shapes"]
    assert told["quantized"] > 0
    assert told["unknown"] > 0


def test_layers_by_their_worth_ask_the_same_rules(here, known, compose, execute_run, tmp_path):
    outputs, *_ = known(64, 256)
    record = execute_run(compose(*SMALL_LINEAR, outputs, "quant=int8wo", "layers=sensitive", *SHORT))
    assert record.outcome is Outcome.OK, record.reason
    (kind,) = json.loads((tmp_path / "run" / "sensitive.json").read_text())["kinds"]
    assert (kind["gain_by"], kind["gain_ms"] > 0) == ("rules", True)


def test_the_quality_floor_holds(here, known, compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, *known(64, 256), "quant.min_sqnr_db=90"))
    assert record.metrics["quantize/layers"] == 0
    assert record.reason.startswith("nothing was quantized; in 1 of 1 shapes: predicted faster, but ")
    assert "dB is below quant.min_sqnr_db=90" in record.reason


def test_what_is_not_sure_to_gain_stays_as_it_is(here, known, compose, execute_run):
    words = known(64, 256, speedups={"int8wo": 1.01, "float8wo": 0.7})
    record = execute_run(compose(*SMALL_LINEAR, *words))
    assert (record.outcome, record.metrics["quantize/layers"]) == (Outcome.OK, 0)
    assert "no candidate is surely predicted to gain" in record.reason


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ((), "nothing was measured on a device like"),
        ((16, 32), "beyond the 16-32 measured of int8wo"),
    ],
)
def test_where_nothing_is_known_the_run_fails_and_says_what_to_measure(
    here, known, compose, execute_run, sides, reason
):
    record = execute_run(compose(*SMALL_LINEAR, *known(*sides)))
    assert record.outcome is Outcome.FAILED  # no finding: once layers are known it can be asked again
    assert record.reason.startswith("quant=regime: the rules say nothing here: ")
    assert reason in record.reason
    assert "sweeps=linear_shapes" in record.remedy


@pytest.mark.usefixtures("fork_server")
def test_the_rules_are_asked_in_a_process_apart(known, compose, cpu):
    cfg = compose(*SMALL_LINEAR, *known(64, 256))
    with Rules(cfg, cpu.as_dict()) as rules:
        told = rules.layers({(16, 256, 128): ["int8wo"]})
        whole, model_ms = rules.whole({((16, 256, 128), "int8wo", ""): 1})
    layer = told.shapes[16, 256, 128]
    assert layer.gaining == ["int8wo"]
    assert layer.candidates["int8wo"].verdict == whole.verdict == "helps"
    assert model_ms == pytest.approx(layer.baseline_ms, rel=0.5)


def test_a_device_of_the_same_name_that_is_another_borrows(here, known, compose, cpu):
    cfg = compose(*SMALL_LINEAR, *known(64, 256))
    other = cpu.as_dict() | {"identity": cpu.identity | {"onednn": "another"}}
    told = []
    for device in (cpu.as_dict(), other):
        with Rules(cfg, device) as rules:
            told.append(rules.layers({(16, 256, 128): ["int8wo"]}).shapes[16, 256, 128].candidates["int8wo"])
    own, borrowed = told
    assert borrowed.high / borrowed.low > own.high / own.low
    assert "nothing of int8wo was measured on" in borrowed.reason
