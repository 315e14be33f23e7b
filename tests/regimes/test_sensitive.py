"""layers=sensitive: kinds of layers weighed on a small model, and what runs say of it."""

import json
from dataclasses import replace

import pytest
import torch

from src.outcomes import RunEndedError
from src.quality.sqnr import compare, on_cpu
from src.records.key import run_key
from src.records.record import Outcome
from src.regimes.noise import noise_of
from src.regimes.sensitive import NAME
from src.treatments.layers import capture_layers
from src.treatments.scheme import make_scheme
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

SENSITIVE = ("layers=sensitive", "quant=int8wo", "dtype=float32")
PLANTED = "x_embedder"


@pytest.fixture
def gains(monkeypatch):
    """gains(per_call_ms): what the rules say of every shape; None: they know nothing."""

    def told(per_call_ms):
        def of(scheme, shapes, run):
            return {} if per_call_ms is None else dict.fromkeys(shapes, per_call_ms)

        monkeypatch.setattr("src.regimes.sensitive.told", of)

    return told


@pytest.fixture
def planted(compose, run_context):
    """A run, its model with outliers in the weights of one kind of layers, its rows.

    The outliers are of two inputs that are equal, and cancel: the output is as without them, quantized it is not.
    """

    def planted(*more):
        run = run_context(compose(*SMALL_FLUX, *SENSITIVE, *more))
        workload = build_workload(run.cfg, run.device)
        with torch.no_grad():
            weight = workload.module.x_embedder.weight
            weight[:, 0] = 40 * weight.std()
            weight[:, 1] = -weight[:, 0]
            workload.kwargs["hidden_states"][..., 1] = workload.kwargs["hidden_states"][..., 0]
        return run, workload, capture_layers(workload, keep=False)[0]

    return planted


def test_an_output_of_zeros_shows_no_noise():
    with pytest.raises(RunEndedError, match="all zeros"):
        noise_of(torch.zeros(4), torch.zeros(4))
    assert noise_of(torch.ones(4), torch.full((4,), 1.1)) == pytest.approx(0.01, rel=1e-5)
    assert noise_of(torch.ones(4), torch.ones(4)) == 0


def test_a_kind_with_outliers_is_left_alone_and_the_rest_is_as_noisy_as_predicted(gains, planted, tmp_path):
    gains(0.1)
    run, workload, rows = planted("quant.layers.sensitive.min_sqnr_db=0")
    with torch.no_grad():
        before = {name: id(module) for name, module in workload.module.named_modules()}
        make_scheme(run.cfg.quant).search(workload, [replace(row) for row in rows], run)
        found = json.loads((tmp_path / NAME).read_text())
        assert found["left"] == []
        noisiest = max(found["kinds"], key=lambda kind: kind["noise"])
        assert (noisiest["name"], noisiest["layers"], noisiest["gain_by"]) == (PLANTED, 1, "rules")
        assert noisiest["gain_ms"] == pytest.approx(0.1)

        target = found["curve"][0]["sqnr_db"] + 0.5  # more than with every layer
        run, workload, rows = planted(f"quant.layers.sensitive.min_sqnr_db={target}")
        plain, scheme = on_cpu(workload.call()), make_scheme(run.cfg.quant)
        scheme.search(workload, rows, run)
        assert before.keys() == {name for name, _ in workload.module.named_modules()}
        assert compare(plain, workload.call()).get("quality/sqnr_db") is None  # as it was
        scheme.apply(workload, rows, run)
        measured_db = compare(plain, workload.call())["quality/sqnr_db"]
    left = [row for row in rows if row.reason]
    assert [row.fqn for row in left] == [PLANTED]
    assert left[0].reason.startswith(f"layers=sensitive: {PLANTED} gives ")
    assert run.record.details["sensitive"]["left"].keys() == {PLANTED}
    assert measured_db == pytest.approx(run.record.metrics["sensitive/predicted_sqnr_db"], abs=3)
    assert measured_db > target - 1


def test_a_quantized_baseline_and_the_treated_arm_leave_the_same_alone(gains, planted, tmp_path):
    gains(0.1)
    run, workload, rows = planted("quant.layers.include=[ff.net.2]")
    with torch.no_grad():
        make_scheme(run.cfg.quant).search(workload, [replace(row) for row in rows], run)
        (tmp_path / "baseline").mkdir()
        (tmp_path / NAME).rename(tmp_path / "baseline" / NAME)
        kinds = json.loads((tmp_path / "baseline" / NAME).read_text())["kinds"]
        gains(-3.0)  # would be told now
        make_scheme(run.cfg.quant).search(workload, rows, run)
    assert json.loads((tmp_path / NAME).read_text())["kinds"] == kinds


def test_what_the_rules_do_not_know_is_timed(gains, compose, run_context, tmp_path):
    gains(None)
    cfg = compose(*SMALL_LINEAR, *SENSITIVE)
    run = run_context(replace(cfg, quant=replace(cfg.quant, layer_budget_s=0.05)))
    workload = build_workload(run.cfg, run.device)
    rows, _ = capture_layers(workload, keep=False)
    with torch.no_grad():
        make_scheme(run.cfg.quant).search(workload, rows, run)
    (kind,) = json.loads((tmp_path / NAME).read_text())["kinds"]
    assert (kind["gain_by"], kind["gain_ms"] != 0, kind["sqnr_db"] > 30) == ("probe", True, True)


def test_a_target_that_cannot_be_met_is_said(gains, compose, execute_run, tmp_path):
    gains(0.1)
    record = execute_run(compose(*SMALL_LINEAR, *SENSITIVE, "quant.layers.sensitive.min_sqnr_db=90"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "no kind of layer can be quantized within quant.layers.sensitive.min_sqnr_db=90" in record.reason
    assert "of 1 the least noisy: " in record.reason
    assert "a lower quant.layers.sensitive.min_sqnr_db" in record.remedy
    (row,) = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert row["reason"].startswith("layers=sensitive: ")


def test_a_run_says_what_was_left_alone_and_what_was_predicted(gains, compose, execute_run):
    gains(0.1)
    record = execute_run(compose(*SMALL_LINEAR, *SENSITIVE, "measure.budget_s=0.1"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["sensitive/kinds_left"] == 0
    predicted_db = record.metrics["sensitive/predicted_sqnr_db"]
    assert record.metrics["quality/sqnr_db"] == pytest.approx(predicted_db, abs=0.1)
    assert record.details["sensitive"] == {
        "min_sqnr_db": 20.0, "predicted_sqnr_db": predicted_db, "predicted_saved_ms": 0.1, "left": {}, "kinds": 1,
    }  # fmt: skip


def test_the_target_is_part_of_the_key_and_runs_without_one_keep_theirs(compose):
    device = {"name": "cpu"}
    cfg = compose("quant=int8wo", "layers=sensitive")
    keys = [
        run_key(each, device)
        for each in (
            cfg,
            compose("quant=int8wo", "layers=sensitive", "quant.layers.sensitive.min_sqnr_db=25"),
            compose("quant=int8wo"),
        )
    ]
    assert len({*keys}) == 3
