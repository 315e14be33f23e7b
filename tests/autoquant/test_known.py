"""What earlier runs know of layers is not timed again; what is doubtful, or was measured otherwise, is."""

import json

import pytest

from src.autoquant.known import Known, layer_settings
from src.autoquant.plan import Choice, Plan, Trial, read_plan
from src.records.key import axes_of
from src.records.record import Outcome, Record, read_record
from src.run import execute
from tests.autoquant.test_autoquant import candidates
from tests.conftest import SMALL_LINEAR, synthetic_rounds

SHAPE, SHAPE_TEXT = (16, 256, 128), "16x256x128"


@pytest.fixture
def timed(monkeypatch):
    """timed(speedup, ...): trials come out so, one after the other; returns those that were not asked for."""

    def patch(*speedups):
        left = list(speedups)

        def fake(*_, rounds, **__):
            for own in rounds:
                vars(own).update(vars(synthetic_rounds(left.pop(0))))

        monkeypatch.setattr("src.autoquant.trials.measure_jointly", fake)
        monkeypatch.setattr("src.autoquant.trials.times_slower", lambda *_: (1.0, 1.0))
        return left

    return patch


@pytest.fixture
def measured(compose, tmp_path, monkeypatch):
    """measured(key, *overrides): a run of one small Linear, its whole model faked; its record."""
    monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(1.5))

    def run(key, *overrides):
        cfg = compose(*SMALL_LINEAR, f"outputs={tmp_path}", *overrides)
        folder = tmp_path / "runs" / key / "001"
        folder.mkdir(parents=True)
        execute(cfg, Record(key, 1, "sweep", axes_of(cfg)), folder, lambda _: None)
        record = read_record(folder / "record.json")
        assert record.outcome is Outcome.OK, record.reason
        return record

    return run


def trials(tmp_path, key):
    (choice,) = read_plan(tmp_path / "runs" / key / "001" / "plan.json").choices
    return {trial.scheme: trial for trial in choice.trials}, choice


def test_what_an_earlier_run_timed_is_not_timed_again(timed, measured, tmp_path):
    both = candidates("int8wo", "float8wo")
    timed(1.5, 1.2)
    first = measured("first", *both)
    assert first.details["autoquant"]["known"] == {}
    timed()
    second = measured("second", *both)
    assert second.details["autoquant"]["known"] == {"first/001": {SHAPE_TEXT: ["int8wo", "float8wo"]}}
    before, _ = trials(tmp_path, "first")
    after, choice = trials(tmp_path, "second")
    assert (choice.scheme, choice.baseline_ms) == ("int8wo", pytest.approx(1.0, rel=0.01))
    assert choice.reason == "1.50x in its shape, timed by first/001"
    for name, trial in after.items():
        assert (trial.run, trial.ci_low) == ("first/001", before[name].ci_low)
        assert trial.sqnr_db == pytest.approx(before[name].sqnr_db, abs=1)  # looked at, in this model
    third = measured("third", *both)  # what was not timed there is not told twice
    assert third.details["autoquant"]["known"] == second.details["autoquant"]["known"]


def test_the_floor_is_this_model_s(timed, measured, tmp_path):
    timed(1.5)
    measured("first", *candidates("int8wo"))
    timed()
    measured("second", *candidates("int8wo"), "quant.min_sqnr_db=90")
    found, choice = trials(tmp_path, "second")
    assert (choice.scheme, found["int8wo"].below_floor) == ("none", True)
    assert "is below quant.min_sqnr_db=90.0" in found["int8wo"].reason


def test_what_is_missing_or_doubtful_is_timed(timed, measured, tmp_path):
    timed(1.5, 1.02)  # the second holds the least gain
    measured("first", *candidates("int8wo", "float8wo"))
    left = timed(1.3, 0.7)  # float8wo again, and int4wo
    measured("second", *candidates("int8wo", "float8wo", "int4wo"))
    found, _ = trials(tmp_path, "second")
    assert left == []
    assert {name: trial.run for name, trial in found.items()} == {
        "int8wo": "first/001", "float8wo": "", "int4wo": ""}  # fmt: skip
    assert found["float8wo"].speedup == pytest.approx(1.3, rel=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        ("quant.known=never",),
        ("rerun=true",),
        ("dtype=float32",),
        ("measure.cache=cold",),
        ("compile=default", "compile.backend=eager"),
    ],
    ids=lambda other: other[0],
)
def test_what_was_measured_otherwise_is_timed(timed, measured, tmp_path, other):
    timed(1.5)
    measured("first", *candidates("int8wo"))
    left = timed(1.3)
    measured("second", *candidates("int8wo"), *other)
    assert left == []
    assert trials(tmp_path, "second")[0]["int8wo"].run == ""


def test_a_candidate_with_other_options_is_another(timed, measured, tmp_path):
    timed(1.5, 1.4)
    measured("first", *candidates("int8wo", "int4wo"))
    left = timed(1.3)
    measured("second", *candidates("int8wo", "int4wo"), "quant.candidates.int4wo.group_size=64")
    assert left == []
    assert {n: t.run for n, t in trials(tmp_path, "second")[0].items()} == {
        "int8wo": "first/001",
        "int4wo": "",
    }


def test_a_run_of_one_linear_is_known_too(timed, measured, tmp_path):
    layer = measured("layer", "quant=int8wo")
    timed()
    measured("second", *candidates("int8wo"))
    trial = trials(tmp_path, "second")[0]["int8wo"]
    assert (trial.run, trial.speedup) == ("layer/001", layer.metrics["speedup/ratio"])


def test_what_earlier_runs_found_slower_on_both_sides_is_not_timed_between(timed, measured, tmp_path):
    for rows in (16, 64):
        timed(0.7)
        measured(f"of_{rows}", *candidates("int8wo"), f"model.dims.M={rows}")
    timed()
    measured("between", *candidates("int8wo"), "model.dims.M=32")
    trial = trials(tmp_path, "between")[0]["int8wo"]
    assert (trial.outcome, trial.reason) == (
        "not tried",
        "slower in 16x256x128 (timed by of_16/001) and in 64x256x128 (timed by of_64/001)",
    )
    left = timed(0.7)
    measured("unknowing", *candidates("int8wo"), "model.dims.M=32", "quant.known=never")
    assert (left, trials(tmp_path, "unknowing")[0]["int8wo"].outcome) == ([], "ok")


def test_what_another_treatment_gave_says_nothing_of_a_scheme(timed, measured, tmp_path):
    compiled = ("compile=default", "compile.backend=eager")
    other = measured("layer", "quant=int8wo", *compiled, "treatment=[compile]")
    assert "layer_settings" not in other.details
    timed(1.5)
    searched = measured("first", *candidates("int8wo"), *compiled)
    settings = searched.details["layer_settings"]["settings"]
    configs = read_plan(tmp_path / "runs" / "first" / "001" / "plan.json").configs
    other.details["layer_settings"] = {
        "settings": settings,
        "config": configs["int8wo"],
    }  # as it was once noted
    for treated, known in (({}, "layer/001"), ({"treatment": "compile"}, "first/001")):
        other.axes = {name: value for name, value in other.axes.items() if name != "treatment"} | treated
        other.started_at = "2099-01-01T00:00:00+00:00"
        other.write(tmp_path / "runs" / "layer" / "001")
        assert Known(tmp_path, settings, configs, 1.02).of(SHAPE, "int8wo").trial.run == known


def test_a_recipe_s_cuda_graphs_are_another_way_of_compiling(compose, cpu):
    def settings(*overrides):
        cfg = compose(*SMALL_LINEAR, "quant=int8wo", *overrides)
        return layer_settings(cfg, cpu, cold=True, launches=False)

    graphed = settings("compile=default", "recipe.cuda_graphs=true")
    assert graphed == settings("compile=reduce-overhead")
    assert graphed != settings("compile=default")


def test_packages_are_another_way_of_compiling(compose, cpu):
    def settings(compile):
        cfg = compose(*SMALL_LINEAR, "quant=int8wo", f"compile={compile}")
        return layer_settings(cfg, cpu, cold=True, launches=False)

    assert settings("aot") != settings("default")
    assert settings("aot") == settings("aot-regional")  # of one layer the same


def test_versions_count(compose, cpu, monkeypatch):
    cfg = compose(*SMALL_LINEAR, "quant=autoquant")
    before = layer_settings(cfg, cpu, cold=True, launches=False)
    assert layer_settings(cfg, cpu, cold=True, launches=False) == before
    assert layer_settings(cfg, cpu, cold=True, launches=True) != before
    monkeypatch.setattr("src.autoquant.known.versions", lambda: {"torch": "0.1"})
    assert layer_settings(cfg, cpu, cold=True, launches=False) != before


def noted(outputs, key, low, high, withheld=False):
    """A run with a plan that timed one candidate."""
    folder = outputs / "runs" / key / "001"
    folder.mkdir(parents=True)
    trial = Trial("int8wo", "ok", "", (low + high) / 2, low, high, 40.0)
    choice = Choice(*SHAPE, ["inner"], "int8wo", "faster", 1.0, [trial])
    plan = Plan("linear", "linear", "none", "a CPU", [choice], configs={"int8wo": "c"})
    (folder / "plan.json").write_text(json.dumps(plan.as_dict()))
    record = Record(key, 1, "sweep", {}, Outcome.OK, started_at=f"2026-01-0{key}T00:00:00+00:00")
    record.details = {"layer_settings": {"settings": "abc"}} | ({"withheld": True} if withheld else {})
    record.write(folder)


@pytest.mark.parametrize(
    ("second", "known"),
    [
        ((1.35, 1.45), "2/001"),  # the newer one
        ((1.0, 1.1), None),  # doubt about the gain
        ((1.1, 1.2), None),  # they contradict each other
        ((0.5, 0.6), None),
    ],
)
def test_runs_that_contradict_each_other_leave_doubt(tmp_path, second, known):
    noted(tmp_path, "1", 1.3, 1.4)
    noted(tmp_path, "2", *second)
    found = Known(tmp_path, "abc", {"int8wo": "c"}, 1.02).of(SHAPE, "int8wo")
    assert (found.trial.run if found else None) == known
    assert Known(tmp_path, "other", {"int8wo": "c"}, 1.02).of(SHAPE, "int8wo") is None
    assert Known(tmp_path, "abc", {"int8wo": "d"}, 1.02).of(SHAPE, "int8wo") is None


def test_a_disturbed_run_tells_nothing(tmp_path):
    noted(tmp_path, "1", 1.3, 1.4)
    noted(tmp_path, "2", 0.3, 0.4, withheld=True)
    found = Known(tmp_path, "abc", {"int8wo": "c"}, 1.02).of(SHAPE, "int8wo")
    assert found is not None
    assert found.trial.run == "1/001"
    (tmp_path / "runs" / "1" / "001" / "plan.json").write_text("{")
    assert Known(tmp_path, "abc", {"int8wo": "c"}, 1.02).of(SHAPE, "int8wo") is None
