"""Runs of training steps in the analysis: a section of their own, and no part of what is said of inference."""

import json

import pandas as pd
import pytest
import yaml

from src.analysis.runs.frame import layer_level, model_level, standing, tidied, tidy, trained, trainings_of
from src.analysis.runs.tracked.source import Runs, attempts
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.training_shapes import regimes, training_shapes
from src.analysis.trainings import curves_of
from src.config.schema.root import TrackingConf
from src.config.schema.steps import NO_OPTIMIZER
from src.records.record import EMULATED, Outcome
from src.records.store import run_folder
from src.report.runs.filters import Filters
from src.report.training.scratch import trained_in_words
from src.report.training.section import training_section as section_of
from src.statistics.curves import beside, curve_distance, few_points
from tests.analysis.synthetic import made

RECIPE = "training/float8_rowwise"
OF_STEPS = {"seed": 0, "training": {"steps": 2, "learning_rate": 1e-4, "emulate": False}}


def training_section(frame, filters, outputs, whole=None):
    return section_of(frame, filters, outputs, frame.iloc[:0] if whole is None else whole, 0.02)


def losses(outputs, key, config, loss, **others) -> None:
    """What a run leaves in its folder."""
    folder = run_folder(outputs, key, 1)
    folder.mkdir(parents=True)
    (folder / "losses.json").write_text(json.dumps({"loss": loss} | others))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def runs_of(store, runs):
    name, _ = store.experiment(runs)
    return Tracker(TrackingConf(name="s", uri=store.uri), name).runs()


def frame_of(store, runs) -> pd.DataFrame:
    return standing(tidy(runs_of(store, runs), 0.02))


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
    losses(tmp_path, "t", OF_STEPS, [2.0, 1.0], baseline_loss=[2.0, 0.8])
    html = training_section(frame, Filters(frame), tmp_path)
    for said in (
        RECIPE,
        "flux-tiny",
        "512×4096×4096",
        "1.25×",
        "1.23 %",
        '<span class="part">512.0 →</span> <span class="part">128.0</span>',  # may stand below each other
        "seed=0, steps=2, learning_rate=0.0001",
        "unquantized: 2 at first, 0.8 after 2 steps",
        f"{RECIPE}: +25 % at the end; over all steps 7.14 % apart",
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
    pays = "all that was measured undisturbed from 4.29 GFLOP per matmul on pays"
    for said in ("4096×512×1024", "4096×1024×512", "1024×4096×512", pays, "512×1024</th>"):
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
    monkeypatch.setattr("src.report.training.shapes._MOST_ROWS", 3)
    assert '2 more in <a href="verdicts.csv">' in training_section(frame, Filters(frame), tmp_path)


def test_steps_with_and_without_an_optimizer_are_two_variants(store, tmp_path):
    def by(optimizer, key, speedup):
        told = {"task.steps": "true", "training.optimizer._target_": optimizer}
        return made(key, speedup, quant=RECIPE, task="training", params=told)

    frame = frame_of(store, [by("torch.optim.AdamW", "a", 1.1), by(NO_OPTIMIZER, "b", 1.3)])
    assert [*frame["variant"]] == ["optimizer=none", "optimizer=torch.optim.AdamW"]
    assert frame["stands"].all()
    alone = frame_of(store, [by(NO_OPTIMIZER, "c", 1.3)])
    assert [*alone["variant"]] == ["optimizer=none"]
    assert "optimizer=none) ·" in training_section(alone, Filters(alone), tmp_path)


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


def test_curves_of_other_settings_are_other_figures(store, tmp_path):
    runs = [made(key, 1.1, quant=RECIPE, task="training", batch=1) for key in ("a", "b", "d")]
    runs += [made("c", 1.1, quant="training/adamw8bit", task="training")]
    frame = tidy(runs_of(store, runs), 0.02)
    steps = OF_STEPS | {"model": {"factory": {"num_layers": 4}}}
    other = steps | {"training": OF_STEPS["training"] | {"learning_rate": 1e-3}}
    smaller = steps | {"model": {"factory": {"num_layers": 2}}}
    for key, config in (("a", steps), ("b", other), ("c", steps), ("d", smaller)):
        losses(tmp_path, key, config, [2.0, 1.0], baseline_loss=[2.0, 1.0])
    found = {each.told: [*each.by_recipe] for each in curves_of(frame, tmp_path)}
    assert found == {
        f"seed=0, steps=2, learning_rate={rate}, model.factory.num_layers={layers}, compile=default": recipes
        for rate, layers, recipes in (
            (0.0001, 4, [RECIPE, "training/adamw8bit"]),
            (0.001, 4, [RECIPE]),
            (0.0001, 2, [RECIPE]),
        )
    }


def test_trainings_from_scratch_have_a_curve_per_recipe_held_against_the_unquantized_one(store, tmp_path):
    def settings(precision="float32", seed=0, **more):
        training = {"steps": 2, "batch": 8, "learning_rate": 0.001, "precision": precision} | more
        return {"seed": seed, "model": {"factory": {"width": 4}, "training": training}}

    told = [
        ("p", "none", settings(checkpoint="/here"), [2.0, 1.0]),
        ("r", RECIPE, settings(), [2.0, 1.5]),
        ("h", "none", settings("bfloat16"), [2.0, 1.0]),
        ("s", RECIPE, settings(seed=7), [3.0, 2.0]),
    ]
    runs = []
    for key, quant, config, loss in told:
        runs.append(made(key, quant=quant, compile="none", task="train", params={"task.compares": "false"}))
        runs[-1].record.metrics = {
            "training/steps": 2.0,
            "training/loss": loss[-1],
            "training/held_out_loss": 1.25,
        }
        losses(tmp_path, key, config, loss)
    attempts_ = attempts(Runs(runs_of(store, runs)))
    assert tidied(attempts_, 0.02).empty
    frame = trainings_of(attempts_, 0.02)
    first, second = sorted(curves_of(frame, tmp_path), key=lambda each: each.told)
    assert (first.told, first.name) == (
        "seed=0, steps=2, batch=8, learning_rate=0.001",
        "unquantized, float32",
    )
    apart = {name: curve.distance for name, curve in first.by_recipe.items()}
    assert apart == {f"{RECIPE}, float32": pytest.approx(0.5 / 3), "unquantized, bfloat16": 0.0}
    assert (second.unquantized, [*second.by_recipe]) == ([], [RECIPE])
    html = training_section(tidied(attempts_, 0.02), Filters(frame), tmp_path, frame)
    assert "held out loss 1.25" in html
    assert html.count("<figure") == 3, "without an unquantized one there is no distance"
    assert f"  loss of {RECIPE}, float32, {first.told}: 16.7 % from unquantized, float32" in [
        *trained_in_words(frame, tmp_path)
    ]


def test_long_curves_are_drawn_as_means():
    drawn = few_points([float(i % 2) for i in range(1000)], most=200)
    assert (len(drawn.steps), drawn.width, drawn.steps[0]) == (200, 5, 3.0)
    assert beside([0.0, 2.0], [1.0, 3.0, 9.0]).values == [50.0]
    assert curve_distance([2.0, 1.0], [2.0, 1.5]) == pytest.approx(0.5 / 3)


def test_an_analysis_of_trainings_alone_has_a_report(store, analysing):
    run = made("w", quant="none", compile="none", task="train", params={"task.compares": "false"})
    run.record.metrics = {"training/steps": 2.0, "training/loss": 1.0, "training/held_out_loss": 1.25}
    name, _ = store.experiment([run])
    status, printed = analysing(store.conf(name))
    assert status == 0
    assert "none · none: ok, 2 steps, held out loss 1.25" in printed
    assert "no finished runs" not in printed
    page = (store.outputs / "reports" / name / "report.html").read_text(encoding="utf-8")
    assert f"experiment {name}" in page
    assert "From scratch" in page
    store.experiment([made("x")])  # the database is another, the experiment is the same
    assert analysing(store.conf(name))[0] == 0
