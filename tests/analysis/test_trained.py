"""Runs of training steps in the analysis: a section of their own, and no part of what is said of inference."""

import json

import pandas as pd
import pytest

from src.analysis.runs.frame import layer_level, model_level, standing, tidy, trained
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.training_shapes import regimes, training_shapes
from src.config.schema.root import TrackingConf
from src.config.schema.steps import NO_OPTIMIZER
from src.records.record import EMULATED, Outcome
from src.records.store import run_folder
from src.report.runs.filters import Filters
from src.report.runs.training import training_section
from tests.analysis.synthetic import made

RECIPE = "training/float8_rowwise"


def frame_of(store, runs) -> pd.DataFrame:
    name, _ = store.experiment(runs)
    return standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02))


def test_trainings_have_a_section_with_curves_and_are_not_among_inference(store, tmp_path):
    training = made("t", 1.25, quant=RECIPE, task="training")
    training.record.metrics |= {
        "quality/loss_distance": 0.0123,
        "memory/baseline_optimizer_gib": 0.5,
        "memory/optimizer_gib": 0.125,
    }
    linear = made("l", 1.5, quant=RECIPE, task="training", shape=(512, 4096, 4096))
    frame = frame_of(store, [training, linear, made("i", 1.1)])
    assert len(trained(frame)) == 2
    assert [*model_level(frame)["quant"]] == ["int8dq"]
    assert layer_level(frame).empty
    folder = run_folder(tmp_path, "t", 1)
    folder.mkdir(parents=True)
    (folder / "losses.json").write_text(json.dumps({"loss": [2.0, 1.0], "baseline_loss": [2.0, 0.9]}))
    html = training_section(frame, Filters(frame), tmp_path)
    for said in (
        RECIPE,
        "flux-tiny",
        "512×4096×4096",
        "1.25×",
        "1.23%",
        "512.0 → 128.0",
        "<svg",
        "unquantized",
    ):
        assert said in html, said


def test_where_a_recipe_pays_is_told_by_the_shapes_of_its_three_matmuls(store, tmp_path):
    steps = {"quant": RECIPE, "task": "training"}
    frame = frame_of(
        store,
        [
            made("a", 0.8, shape=(256, 512, 1024), **steps),
            made("b", 1.3, shape=(4096, 512, 1024), **steps),
            made("c", 1.6, shape=(16384, 512, 1024), **steps),
        ],
    )
    (regime,) = regimes(training_shapes(frame))
    assert regime.counts == {"helps": 2, "hurts": 1}
    assert regime.pays_from_gflop == pytest.approx(2e-9 * 4096 * 512 * 1024)
    html = training_section(frame, Filters(frame), tmp_path)
    for said in ("4096×512×1024", "4096×1024×512", "1024×4096×512", "pays from 4.29 GFLOP", "512×1024</th>"):
        assert said in html, said


def test_a_shape_counts_once_and_only_findings_say_where_it_pays(store, tmp_path, monkeypatch):
    steps = {"quant": RECIPE, "task": "training"}
    large = {"shape": (16384, 512, 1024), **steps}
    withheld = made("w", 0.9, **large | {"batch": 8})
    withheld.record.verdict = "inconclusive"  # other than its interval says
    runs = [
        made("a", 0.8, shape=(256, 512, 1024), **steps),
        made("b", 1.2, shape=(4096, 512, 1024), **steps),
        made("c", 1.3, shape=(4096, 512, 1024), batch=4, **steps),
        made("k", outcome=Outcome.KILLED, **large | {"shape": (8192, 512, 1024)}),
        withheld,
    ]
    frame = frame_of(store, runs)
    (regime,) = regimes(training_shapes(frame))
    assert regime.counts == {"helps": 1, "hurts": 1, "killed": 1, "inconclusive": 1}
    assert regime.pays_from_gflop == pytest.approx(2e-9 * 4096 * 512 * 1024)
    monkeypatch.setattr("src.report.runs.training_shapes._MOST_ROWS", 3)
    assert '2 more in <a href="verdicts.csv">' in training_section(frame, Filters(frame), tmp_path)


def test_steps_with_and_without_an_optimizer_are_two_variants(store, tmp_path):
    def by(optimizer, key, speedup):
        told = {"task.steps": "true", "training.optimizer._target_": optimizer}
        return made(key, speedup, quant=RECIPE, task="training", params=told)

    frame = frame_of(store, [by("torch.optim.AdamW", "a", 1.1), by(NO_OPTIMIZER, "b", 1.3)])
    assert [*frame["variant"]] == ["optimizer=src.training.arm.Unstepped", "optimizer=torch.optim.AdamW"]
    assert frame["stands"].all()
    alone = frame_of(store, [by(NO_OPTIMIZER, "c", 1.3)])
    assert [*alone["variant"]] == ["optimizer=src.training.arm.Unstepped"]
    assert f"optimizer={NO_OPTIMIZER}) ·" in training_section(alone, Filters(alone), tmp_path)


def test_an_emulated_recipe_has_no_speed_at_any_shape(store, tmp_path):
    run = made("e", 1.0, shape=(256, 512, 1024), quant=RECIPE, task="training")
    run.record.verdict = EMULATED
    run.record.metrics = {
        name: x for name, x in run.record.metrics.items() if not name.startswith("speedup/")
    }
    frame = frame_of(store, [run])
    (regime,) = regimes(training_shapes(frame))
    assert regime.text.endswith("1 shape, emulated: no speed.")
    assert "emulated: no speed" in training_section(frame, Filters(frame), tmp_path)


def test_without_trainings_there_is_no_section(store, tmp_path):
    frame = frame_of(store, [made("i", 1.1)])
    assert training_section(frame, Filters(frame), tmp_path) == ""
