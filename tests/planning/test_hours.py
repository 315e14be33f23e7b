"""How long runs will take, by the nearest earlier ones."""

from datetime import datetime, timedelta

import pytest

from src.config.schema.measure import MeasureConf
from src.planning.hours import GUESS, LADDER, History, guess_s
from src.records.record import Outcome, Record

AXES = {
    "model": "flux-tiny", "quant": "int8wo", "compile": "none", "batch": 1, "gpu": "cpu",
    "resolution": 256, "target": "denoiser", "dtype": "bfloat16", "task": "latency",
}  # fmt: skip
MEASURE = MeasureConf(name="quick", budget_s=10, max_warmup_s=5, timeout_s=900)


def record(
    wall_s: float, outcome: Outcome = Outcome.OK, phases: dict[str, float] | None = None, **axes: object
):
    begin = datetime(2026, 1, 1)
    return Record(
        "0" * 16, 1, "sweep", AXES | axes, outcome, device={"name": "AMD EPYC, 2 threads"}, phases_s=phases or {},
        started_at=begin.isoformat(), finished_at=(begin + timedelta(seconds=wall_s)).isoformat(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "source"),
    [
        ({}, "the same"),
        ({"batch": 4}, "another size"),
        ({"quant": "none"}, "another quantization"),
        ({"quant": "none", "batch": 4}, "another quantization and size"),
        ({"compile": "regional"}, GUESS),
        ({"model": "flux-dev"}, GUESS),
        ({"target": "block"}, GUESS),
    ],
)
def test_the_nearest_earlier_runs_count(changed, source):
    found = History([record(40), record(42), record(90)]).estimate(AXES | changed, ["cpu"], MEASURE, 60)
    assert found.source == source
    assert (found.seconds, found.runs) == ((60, 0) if source == GUESS else (42, 3))


def test_a_nearer_run_wins_over_many_further_ones():
    history = History([record(10), *(record(100, batch=4) for _ in range(9))])
    assert history.estimate(AXES, ["cpu"], MEASURE, 60).seconds == 10
    assert next(iter(LADDER)) == history.estimate(AXES, ["cpu"], MEASURE, 60).source


def test_a_device_is_known_by_its_name_and_by_the_options():
    history = History([record(40, gpu="auto")])
    assert history.estimate(AXES, ["AMD EPYC, 2 threads", "cpu"], MEASURE, 60).source == "the same"
    assert history.estimate(AXES, ["h100"], MEASURE, 60).source == GUESS


def test_rounds_are_cut_to_the_budget_ceilings_are_paid_once_and_nothing_outlasts_the_timeout():
    long = record(100, phases={"measure": 60.0, "ceilings": 6.0})
    assert History([long]).estimate(AXES, ["cpu"], MEASURE, 60).seconds == 100 - 60 - 6 + 15
    short = MeasureConf(name="x", budget_s=10, max_warmup_s=5, timeout_s=20)
    assert History([long]).estimate(AXES, ["cpu"], short, 60).seconds == 20


def test_further_processes_cost_what_they_did_or_what_the_first_did_not_do_once_and_for_all():
    alone = record(60, phases={"measure": 10.0, "autoquant search": 20.0, "energy": 4.0, "ceilings": 6.0})
    predicted = [History([alone]).estimate(AXES, ["cpu"], MEASURE, 60, n).seconds for n in (1, 3)]
    assert predicted == [54, 54 + 2 * (54 - 24)]
    thrice = record(60 + 25 + 27, phases={"measure": 10.0})
    each = [{"counts": True, "seconds": s} for s in (60, 25, 27)]
    thrice.details["processes"] = {"planned": 3, "each": [*each, {"counts": False, "seconds": 900}]}
    assert [History([thrice]).estimate(AXES, ["cpu"], MEASURE, 60, n).seconds for n in (1, 2, 5)] == [
        60,
        86,
        164,
    ]


def test_no_process_outlasts_the_timeout():
    slow = record(5000, phases={"measure": 10.0})
    assert History([slow]).estimate(AXES, ["cpu"], MEASURE, 60, 3).seconds == 3 * MEASURE.timeout_s


def test_what_did_not_end_well_says_nothing_of_what_will_run():
    history = History([record(1, Outcome.KILLED), record(2, Outcome.UNSUPPORTED), record(3, Outcome.TIMEOUT)])
    assert history.estimate(AXES, ["cpu"], MEASURE, 60).source == GUESS
    assert history.unsupported(["cpu"]).seconds == 2
    assert history.unsupported(["h100"]).source == GUESS


def test_a_record_without_its_end_is_passed_over():
    unfinished = record(5)
    unfinished.finished_at = ""
    assert History([unfinished]).estimate(AXES, ["cpu"], MEASURE, 60).source == GUESS


def test_a_guess_follows_the_budget_and_autoquants_trials(compose):
    plain, auto = compose("quant=int8wo"), compose("quant=autoquant")
    assert guess_s(MEASURE, plain.quant, 7) == 3 * 10 + 30
    assert guess_s(MEASURE, plain.quant, 7, processes=3) == 3 * 10 + 30 + 2 * (2 * 10 + 20)
    assert guess_s(MEASURE, compose("quant=regime").quant, 7) == guess_s(MEASURE, plain.quant, 7)
    assert guess_s(MEASURE, plain.quant, 1, processes=3, probe=True) == 3 * (10 + 5)
    assert guess_s(MEASURE, auto.quant, 7) == 3 * 10 + 30 + 1.5 * len(auto.quant.candidates) * 7 + 30
