"""What became of the presets of layer rules, told from runs that a tracker keeps."""

import math

import pytest

from src.analysis.layer_rules import against, layer_rules
from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.config.schema.root import TrackingConf
from tests.analysis.synthetic import made

SIDES = {"all": "0", "field_default": "512", "large": "1024"}


def of(preset, speedup, quant="int8wo", **more):
    params = {"quant.layers.name": preset, "quant.layers.min_side": SIDES[preset]}
    return made(f"{preset} {quant}", speedup, quant=quant, compile="regional", params=params, **more)


def thrice(preset, speedup, quant="int8wo", apart=0.003):
    """Measured in three processes, so that nothing is to be allowed for."""
    factors = ((1, 1 - apart), (2, 1.0), (3, 1 + apart))
    return [of(preset, speedup * factor, quant, attempt=attempt) for attempt, factor in factors]


@pytest.fixture
def frame(store):
    def frame(*runs):
        name, _ = store.experiment(runs)
        return standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02))

    return frame


def test_each_preset_is_held_against_all_layers_by_scheme(frame):
    runs = frame(
        *thrice("all", 1.0), *thrice("field_default", 1.1), *thrice("large", 1.003),
        *thrice("all", 1.2, "int8dq"), *thrice("field_default", 1.0, "int8dq"),
        of("large", 1.22, "int8dq", spread=0.05),
    )  # fmt: skip
    (said,) = layer_rules(runs, 0.02)
    assert "flux-tiny b1 256px, against layers=all: " in said
    assert "int8wo with field_default is faster (1.10×, 1.09–1.11; SQNR +0.0 dB; memory saved 48%" in said
    assert "int8wo with large is as fast (1.00×" in said
    assert "int8dq with field_default is slower (0.83×, 0.8" in said
    assert "int8dq with large is undecided (1.02×" in said


def test_a_disturbed_run_is_held_against_nothing(frame):
    disturbed = of("field_default", 0.4)
    disturbed.record.withhold("other processes used 1.7 of 2 CPUs", "a quiet machine")
    (said,) = layer_rules(frame(of("all", 1.0), disturbed, of("large", 1.0)), 0.02)
    assert "large" in said
    assert "field_default" not in said


def test_nothing_is_said_without_a_run_to_compare_with(frame):
    assert list(layer_rules(frame(of("field_default", 1.1), of("large", 1.0)), 0.02)) == []
    assert list(layer_rules(frame(made("a", 1.1), made("b", 1.2, batch=4)), 0.02)) == []


def test_the_ratio_of_two_runs_is_wider_than_either_and_holds_what_processes_differ_by(frame):
    runs = frame(of("all", 1.0, spread=0.03), of("large", 1.1, spread=0.04))
    whole, large = (runs[runs["variant"] == f"layers={name}"].iloc[0] for name in ("all", "large"))
    found = against(large, whole)
    assert found.ratio == pytest.approx(1.1)
    half = math.hypot(0.03, 0.04, 1.96 * 0.03, 1.96 * 0.03)
    assert math.log(found.ci_high / found.ratio) == pytest.approx(half, rel=1e-3)
    assert math.log(found.ratio / found.ci_low) == pytest.approx(half, rel=1e-3)


def test_one_process_each_does_not_tell_five_percent(frame):
    (said,) = layer_rules(frame(of("all", 1.0, spread=0.002), of("large", 1.05, spread=0.002)), 0.02)
    assert "int8wo with large is undecided (1.05×" in said


def test_what_is_not_told_of_is_counted(frame):
    runs = [
        made(f"{batch}{name}", speedup, quant="int8wo", batch=batch,
             params={"quant.layers.name": name, "quant.layers.exclude": excluded})
        for batch in (1, 2, 4) for name, excluded, speedup in (("all", "[]", 1.0), ("large", "['x']", 1.2))
    ]  # fmt: skip
    *told, left = layer_rules(frame(*runs), 0.02)
    assert len(told) == 2
    assert left == "1 more workload with several presets of layers in the table."
