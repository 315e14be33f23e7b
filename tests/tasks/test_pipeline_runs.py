"""Whole pipelines as runs, from configuration to record.json."""

import json

import pytest
import torch

from src.records.record import Outcome
from src.treatments.scheme import Unquantized
from tests.conftest import SMALL_FLUX, synthetic_rounds

HERE = __name__
FEW = ("measure.min_pairs=3", "measure.max_pairs=3")  # a round is a picture
PIPELINE = (*SMALL_FLUX, "resolution=32", "dtype=float32", "target=pipeline", "model.pipeline.steps=2", *FEW)
IMAGE_METRICS = {"quality/psnr_db", "quality/psnr_worst_db"}


class Poison(Unquantized):
    """A treatment after which the denoiser gives NaN."""

    def apply(self, workload, rows, run):
        with torch.no_grad():
            next(workload.denoiser().parameters()).fill_(float("nan"))


def test_a_run(compose, execute_run, tmp_path):
    record = execute_run(compose(*PIPELINE, "quant=int8wo", "batch=2"))
    metrics = record.metrics
    assert record.outcome is Outcome.OK, record.reason
    assert record.verdict in ("helps", "hurts", "neutral", "inconclusive")
    assert record.axes["target"] == "pipeline"
    assert 25 < metrics["quality/psnr_worst_db"] <= metrics["quality/psnr_db"] < 90
    assert metrics["quality/max_abs_error"] < 0.5
    assert metrics["throughput/samples_per_s"] == pytest.approx(2 * metrics["throughput/calls_per_s"])
    assert metrics["memory/model_gib"] < metrics["memory/baseline_model_gib"]
    assert ("quality/lpips" in metrics) == record.details["lpips"].startswith("AlexNet")
    layers = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert {(row["fqn"].split(".")[0], row["scheme"], row["calls"]) for row in layers} == {
        ("transformer", "int8wo", 2),
        ("vae", "", 1),
    }
    assert metrics["quantize/layers"] == sum(bool(row["scheme"]) for row in layers)


def test_a_treatment_that_changes_nothing_gives_the_same_images(compose, execute_run):
    record = execute_run(compose(*PIPELINE, "quant=none"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quality/max_abs_error"] == 0
    assert not IMAGE_METRICS & record.metrics.keys()  # no finite PSNR


def test_in_turn_gives_the_same_images_too(compose, execute_run):
    record = execute_run(compose(*PIPELINE, "quant=none", "measure.pairing=in_turn"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quality/max_abs_error"] == 0


def test_an_image_of_nan_is_bad_numerics(compose, execute_run):
    record = execute_run(compose(*PIPELINE, "quant=none", f"quant._target_={HERE}.Poison"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert "NaN" in record.reason


def test_autoquant_leaves_the_vae_alone(compose, execute_run, tmp_path, monkeypatch):
    def come_out_faster(*_, rounds, **__):
        for own in rounds:
            vars(own).update(vars(synthetic_rounds(1.5)))

    monkeypatch.setattr("src.autoquant.trials.times_slower", lambda *_: (1.0, 1.0))
    monkeypatch.setattr("src.autoquant.trials.measure_jointly", come_out_faster)
    others = [f"~quant.candidates.{name}" for name in ("int8dq", "float8wo", "float8dq", "int4wo")]
    few = ("quant.layer_budget_s=0.01", "quant.layers.include=[to_q,ff.net]", "model.pipeline.steps=1")
    record = execute_run(compose(*PIPELINE, "quant=autoquant", *few, *others))
    assert record.outcome is Outcome.OK, record.reason
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    planned = [name for choice in plan["choices"] for name in choice["layers"]]
    assert planned
    assert all(name.startswith("transformer.") for name in planned)
    layers = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert {row["reason"] for row in layers if row["fqn"].startswith("vae.")} == {
        "vae is not in quant.components"
    }


def test_parts_of_a_model_have_no_images(compose, execute_run):
    record = execute_run(compose(*SMALL_FLUX, "dtype=float32", "quant=int8wo"))
    assert not IMAGE_METRICS & record.metrics.keys()
    assert "lpips" not in record.details
