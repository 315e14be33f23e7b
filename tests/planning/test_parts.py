"""What a run's time goes into: each part is predicted from earlier runs' phases, and gone where it is left out."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config.schema.measure import MeasureConf
from src.planning.hours import GUESS, History
from src.planning.matrix import Fate
from src.planning.parts import (
    AGAIN,
    CEILINGS,
    COMPILE,
    ELSE,
    ENERGY,
    FURTHER,
    PARTS,
    PROFILE,
    PROFILE_S,
    ROUNDS,
    guessed_parts,
    parts_of,
    scaled,
)
from src.planning.planning import plan_runs
from src.records.record import Outcome, Record

AXES = {
    "model": "flux-tiny", "quant": "int8wo", "compile": "regional", "batch": 1, "gpu": "cpu",
    "resolution": 256, "target": "denoiser", "dtype": "bfloat16", "task": "latency",
}  # fmt: skip
PHASES = {
    "ceilings": 6.0, "build": 1.0, "compile baseline": 16.0, "memory": 0.5, "quantize": 1.0, "compile treated": 20.0,
    "measure": 8.0, "power blocks": 2.0, "energy": 4.0, "compile again, cached": 3.0,
}  # fmt: skip
COLD = {
    "compile/baseline_cold_s": 15.5, "compile/baseline_warm_s": 1.0, "compile/cold_s": 19.5, "compile/warm_s": 2.0,
}  # fmt: skip
REST_S = 0.5  # that no phase names
MEASURE = MeasureConf(name="quick", budget_s=10, max_warmup_s=5, timeout_s=900)
SAME = {}
QUANT, SIZE = {"quant": "int8dq"}, {"batch": 4}


def record(phases: dict[str, float], metrics: dict[str, float] | None = None, **axes: object) -> Record:
    begin, seconds = datetime(2026, 1, 1), sum(phases.values()) + REST_S
    return Record(
        "0" * 16, 1, "sweep", AXES | axes, Outcome.OK, device={"name": "AMD EPYC, 2 threads"}, phases_s=phases,
        metrics=COLD if metrics is None else metrics, started_at=begin.isoformat(),
        finished_at=(begin + timedelta(seconds=seconds)).isoformat(),
    )  # fmt: skip


def parts(changed: dict[str, object], measure: MeasureConf = MEASURE, processes: int = 1, *records: Record):
    history = History(records or [record(PHASES)])
    found = history.estimate(AXES | changed, ["cpu"], measure, 60, processes)
    assert found.seconds == pytest.approx(sum(found.parts_s.values()))
    return found.parts_s


@pytest.mark.parametrize(
    ("changed", "compile_s", "again_s"),
    [
        (SAME, 1.0 + 0.5 + 2.0, 0),  # all of it is in the cache; half a second of a phase is no call
        (QUANT, 16.0 - 15.0 + 20.0, 2.0),  # the baseline's is
        (SIZE, 16.0 + 20.0, 3.0),
        (QUANT | SIZE, 16.0 + 20.0, 3.0),
    ],
)
def test_what_was_compiled_before_comes_from_the_cache(changed, compile_s, again_s):
    found = parts(changed)
    assert found[COMPILE] == pytest.approx(compile_s, abs=1.1)
    assert found.get(AGAIN, 0) == pytest.approx(again_s)


def test_parts_are_those_of_the_record_and_ceilings_are_none_of_a_run():
    found = parts(SIZE)
    assert (found[ROUNDS], found[ENERGY], found["memory"], found[ELSE]) == (10.0, 4.0, 0.5, REST_S)
    assert found["build and quantize"] == 2.0
    assert CEILINGS not in found


@pytest.mark.parametrize(
    ("name", "off"),
    [(ENERGY, {"energy_s": 0.0}), (AGAIN, {"warm_compile": False}), (PROFILE, {"profile": False})],
)
def test_what_is_left_out_costs_nothing_and_all_else_what_it_did(name, off):
    asked = replace(MEASURE, profile=True)
    whole, without = parts(SIZE, asked), parts(SIZE, replace(asked, **off))
    assert whole[name] > 0
    assert {key: whole[key] for key in whole if key != name} == pytest.approx(dict(without))


def test_a_profile_that_was_never_taken_is_guessed():
    assert parts(SIZE, replace(MEASURE, profile=True))[PROFILE] == PROFILE_S
    taken = record(PHASES | {"profile": 2.5}, batch=4)
    assert parts(SIZE, replace(MEASURE, profile=True), 1, taken)[PROFILE] == 2.5


def test_without_a_first_call_from_the_cache_one_is_a_part_of_a_cold_one():
    cold = record(PHASES, {name: COLD[name] for name in COLD if name.endswith("cold_s")})
    assert 0 < parts(SAME, MEASURE, 1, cold)[COMPILE] < 0.3 * 36


def test_runs_that_compiled_predict_one_that_will_and_others_one_that_will_not():
    cached = record(PHASES | {"compile baseline": 1.0, "compile treated": 2.0}, {})
    assert parts(SAME, MEASURE, 1, record(PHASES), cached)[COMPILE] == pytest.approx(3.0)
    assert parts(QUANT, MEASURE, 1, record(PHASES), cached)[COMPILE] == pytest.approx(21.0, abs=1.1)


def test_what_another_process_compiled_was_not_compiled_in_the_run():
    ahead = record(PHASES | {"compile baseline": 1.0, "compile treated": 2.0})
    ahead.details["compiled_ahead_s"] = {"baseline": 15.5, "treated": 19.5}
    assert parts(SAME, MEASURE, 1, ahead)[COMPILE] == pytest.approx(3.0)


def test_further_processes_are_a_part_and_their_rounds_are_rounds():
    one, three = parts(SIZE), parts(SIZE, MEASURE, 3)
    assert three[ROUNDS] == 3 * one[ROUNDS]
    assert FURTHER not in one
    assert three[ENERGY] == one[ENERGY]
    each_s = sum(one.values()) - one[ROUNDS] - one[ENERGY] - one[AGAIN]
    assert three[FURTHER] == pytest.approx(2 * each_s)


def test_parts_of_a_run_that_the_time_limit_ends_are_as_long_as_the_limit():
    found = parts(SIZE, replace(MEASURE, timeout_s=20))
    assert sum(found.values()) == pytest.approx(20)


@given(
    st.dictionaries(st.sampled_from([*PHASES, "autoquant search", "of a later version"]), st.floats(0, 1e4))
)
def test_no_second_is_lost(phases):
    whole_s = sum(phases.values()) + REST_S
    found = parts_of(phases, whole_s)
    assert sum(found.values()) == pytest.approx(whole_s)
    assert sum(scaled(found, 2 * whole_s).values()) == pytest.approx(2 * whole_s)
    assert found.keys() == PARTS.keys()


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("cuda", [], {ROUNDS, AGAIN, ENERGY, "memory", ELSE}),
        ("cpu", [], {ROUNDS, AGAIN, "memory", ELSE}),  # it has no counter
        ("cuda", ["compile=none", "target=block", "measure.profile=true"], {ROUNDS, PROFILE, "memory", ELSE}),
        ("cuda", ["measure.energy_s=0", "measure.warm_compile=false"], {ROUNDS, "memory", ELSE}),
    ],
)
def test_a_guess_names_what_its_settings_cost(compose, kind, options, named):
    usual = ["compile=regional", "measure.warm_compile=true", "measure.energy_s=2", "measure.cache=auto"]
    given = {option.partition("=")[0] for option in options}
    usual = [each for each in usual if each.partition("=")[0] not in given]
    found = guessed_parts(compose("model=flux-tiny", *usual, *options), kind, 1, 60.0)
    assert {name for name, seconds in found.items() if seconds} == named
    assert sum(found.values()) == pytest.approx(60)


def test_a_devices_ceilings_are_measured_once(compose, tmp_path):
    options = ["model=linear", "model.dims.K=64", "model.dims.N=64", "gpu=cpu", f"outputs={tmp_path}"]
    schemes = ("int8wo", "int8dq", "none")
    configs = [compose(*options, f"quant={name}", "rerun=true", "measure.ceilings=true") for name in schemes]
    runs = plan_runs(configs).runs
    assert {run.fate for run in runs} == {Fate.RUN}
    assert {run.estimate.source for run in runs} == {GUESS}
    assert [CEILINGS in run.estimate.parts_s for run in runs] == [True, False, False]
    (without,) = plan_runs([compose(*options, "rerun=true", "measure.ceilings=false")]).runs
    assert CEILINGS not in without.estimate.parts_s


def test_ceilings_of_a_busy_machine_are_not_kept_so_that_each_run_measures_them():
    quiet, busy = record(PHASES), record(PHASES)
    quiet.ceilings, busy.ceilings = {"entries": {}, "crowded": False}, {"entries": {}, "crowded": True}
    assert History([quiet]).has_ceilings(["cpu", "another"])
    assert not History([busy]).has_ceilings(["cpu"])
    assert parts(SIZE, MEASURE, 3, busy)[CEILINGS] == 6.0
    assert CEILINGS not in parts(SIZE, replace(MEASURE, ceilings=False), 1, busy)
    assert CEILINGS not in parts(SIZE, MEASURE, 1, busy, quiet)
