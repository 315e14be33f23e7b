"""Attempts and processes of a run key, pooled for verdicts and break-evens."""

import math
from itertools import count

import pytest
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from src.analysis.provenance import Provenance, warnings
from src.analysis.runs.frame import compared, standing, tidy
from src.analysis.shapes import breakeven_table
from src.records.mlflow import content
from src.records.record import Outcome
from src.report.runs.figures import speedup_range
from src.report.words import sentences
from src.statistics.pooling import in_words
from tests.analysis.synthetic import START_MS, Made, made

ALONE = in_words(1, None)
_STARTS = count(START_MS, 1000)


def run_of(item: Made) -> Run:
    """What MLflow gives back of a record; each started after the one before."""
    record, start = item.record, next(_STARTS)
    tags = content.tags(record) | {
        "run_key": record.run_key,
        "attempt": str(record.attempt),
        "sweep": record.sweep,
    }
    params = {name: str(value) for name, value in (record.axes | record.shape).items()} | item.params
    return Run(
        RunInfo(f"{record.run_key}/{start}", "", "", "FINISHED", start, start, "active"),
        RunData(
            [Metric(name, value, 0, 0) for name, value in record.metrics.items()],
            [Param(name, text) for name, text in params.items()],
            [RunTag(name, text) for name, text in tags.items()],
        ),
    )


def several(
    key: str, *speedups: float, half: float = 0.003, own: dict[str, float] | None = None, **given
) -> Made:
    """A run of several processes, as its record tells them; `own`: what else it tells of each."""
    run = made(key, speedups[0], spread=0.003, **given)
    each = [{"process": n, "counts": True, "ratio": s, "ci_low": s * (1 - half), "ci_high": s / (1 - half)}
            | (own or {}) for n, s in enumerate(speedups, 1)]  # fmt: skip
    run.record.details["processes"] = {"planned": len(each), "each": each}
    run.record.metrics["speedup/processes"] = float(len(each))
    return run


def withheld(*given, **more) -> Made:
    """A run that a busy machine disturbed."""
    run = made(*given, **more)
    run.record.verdict, run.record.details["withheld"] = "inconclusive", True
    return run


def frame_of(*runs: Made, margin: float = 0.02):
    return tidy([run_of(run) for run in runs], margin)


def test_a_run_alone_keeps_its_interval_and_says_what_is_not_in_it():
    row = frame_of(made("a", 1.2)).iloc[0]
    assert (row["speedup/ci_low"], row["speedup/ci_high"]) == pytest.approx((1.2 / 1.01005, 1.2 * 1.01005))
    assert (row["speedup/processes"], row["interval"]) == (1, ALONE)
    assert math.isnan(row["speedup/between_sd"])


def test_attempts_of_a_key_are_pooled_and_the_newest_gives_the_row():
    frame = frame_of(made("k", 1.10, attempt=1), made("k", 1.12, attempt=2), made("k", 1.14, attempt=3))
    row = frame.iloc[0]
    assert (len(frame), row["attempt"], row["speedup/processes"], row["interval"]) == (1, 3, 3, "3 processes")
    assert row["speedup/ratio"] == pytest.approx(1.12, rel=1e-3)
    assert row["speedup/ci_low"] < 1.08
    assert row["speedup/within_low"] == pytest.approx(1.14 / 1.01005, rel=1e-4)
    assert row["latency/median_ms"] == pytest.approx(84.2 / 1.14)


def test_the_newest_attempt_is_the_one_that_began_last():
    """Whatever its number: of two outputs folders each counts on its own."""
    row = frame_of(made("k", 1.10, attempt=5), made("k", 1.12, attempt=1, sweep="another")).iloc[0]
    assert (row["attempt"], row["speedup/processes"]) == (1, 2)
    assert row["latency/median_ms"] == pytest.approx(84.2 / 1.12)


def test_the_processes_inside_attempts_are_pooled_with_them():
    row = frame_of(several("k", 1.1, 1.12, 1.14), made("k", 1.12, attempt=2)).iloc[0]
    assert (row["speedup/processes"], row["interval"]) == (4, "4 processes")
    assert row["speedup/ratio"] == pytest.approx(1.12, rel=1e-3)
    assert row["speedup/between_sd"] == pytest.approx(0.0146, rel=0.1)


def test_one_process_apart_no_longer_decides():
    """The case in docs/measurement.md: 0.571, 0.573, 0.636 with intervals of half a percent."""
    runs = [made("k", s, spread=0.0025, attempt=n) for n, s in enumerate((0.571, 0.573, 0.636), 1)]
    row = frame_of(*runs).iloc[0]
    assert row["verdict"] == "hurts"
    assert row["speedup/ci_low"] < 0.571 < 0.636 < row["speedup/ci_high"]


def test_attempts_that_disagree_about_the_sign_are_inconclusive():
    assert frame_of(made("k", 1.04, attempt=1), made("k", 0.97, attempt=2))["verdict"].tolist() == [
        "inconclusive"
    ]


def test_what_others_of_the_device_say_widens_a_single_process_and_is_said():
    others = [several(f"o{n}", s, s * 1.04, batch=n + 2) for n, s in enumerate((0.6, 0.8, 1.0, 1.5))]
    alone = made("a", 1.05, spread=0.003)
    assert frame_of(alone)["verdict"].tolist() == ["helps"]
    frame = frame_of(alone, *others, made("elsewhere", 1.05, spread=0.003, device="another CPU"))
    row = frame.set_index("run_key").loc["a"]
    assert row["interval"] == "1 process; between-process spread of 2.8% from 4 other runs of this device"
    assert row["verdict"] == "inconclusive"
    assert frame.set_index("run_key").loc["elsewhere", "interval"] == ALONE
    told = sentences(standing(frame), breakeven_table(standing(frame)), 0.02)
    assert "4 runs of 2 processes; 1 run of 1 process, with a between-process spread of 2.8%" in told[-1]
    said = warnings(standing(frame), Provenance(runs=len(frame)), 0)
    assert any("1 of 6 runs with a speedup was measured in one process" in text for text in said)


@pytest.mark.parametrize(
    ("mixed", "told"),
    [
        (["commit"], "measured at different commits: "),
        (["torch", "driver"], "measured with different versions of torch, driver: "),
        (["torch", "commit"], "measured at different commits and with different versions of torch: "),
    ],
)
def test_what_the_runs_were_measured_with_is_said_where_it_differs(mixed, told):
    runs = standing(frame_of(made("a", 1.05)))
    assert any(told in text for text in warnings(runs, Provenance(runs=1, mixed=mixed), 0))


def test_other_runs_narrow_what_two_processes_alone_leave_wide():
    pair = several("k", 1.10, 1.12)
    others = [
        several(f"o{n}", s, s * 1.02, s * 1.01, batch=n + 2) for n, s in enumerate((0.6, 0.8, 1.0, 1.5))
    ]
    alone = frame_of(pair).iloc[0]
    among = frame_of(pair, *others).set_index("run_key").loc["k"]
    assert (alone["verdict"], among["verdict"]) == ("inconclusive", "helps")
    assert among["interval"] == "2 processes"


@pytest.mark.parametrize("own", [{"error": 0.02 / 6.965}, {}], ids=["recorded", "derived"])
def test_runs_that_ended_clear_after_3_pairs_hide_no_spread(own):
    """Their intervals of 2 % are 7 errors wide on either side: taken for 2, they left nothing between processes."""
    others = [several(f"o{n}", s, s * 1.02, s * 0.99, half=0.02, own=own, batch=n + 2)
              for n, s in enumerate((0.1, 0.2, 0.3, 0.4))]  # fmt: skip
    for other in others:
        other.record.metrics["speedup/pairs"] = 9.0  # of three processes
    row = frame_of(made("a", 1.05, spread=0.003), *others).set_index("run_key").loc["a"]
    assert row["interval"] == "1 process; between-process spread of 1.5% from 4 other runs of this device"
    assert row["verdict"] == "inconclusive"


def test_other_runs_too_noisy_to_tell_are_not_said_to_tell():
    others = [several(f"o{n}", s, s * 1.01, s * 0.99, own={"error": 0.05}, batch=n + 2)
              for n, s in enumerate((0.6, 0.8, 1.0, 1.5))]  # fmt: skip
    row = frame_of(made("a", 1.05, spread=0.003), *others).set_index("run_key").loc["a"]
    assert (row["interval"], row["verdict"]) == (ALONE, "helps")
    assert row["speedup/error"] == pytest.approx(0.003 / 2.508, rel=0.01)  # t of 22 degrees at 98 %


def test_the_pairs_of_attempts_that_are_pooled_are_those_of_all():
    assert frame_of(made("k", 1.10, attempt=1), made("k", 1.12, attempt=2)).iloc[0]["speedup/pairs"] == 80
    busy = withheld("k", 1.5, attempt=3)
    row = frame_of(made("k", 1.10, attempt=1), made("k", 1.12, attempt=2), busy).iloc[0]
    assert (row["speedup/pairs"], row["speedup/processes"]) == (80, 2)


def test_which_attempts_count_does_not_hang_on_other_runs():
    busy = [withheld("a", 1.5, attempt=1), withheld("a", 1.1, attempt=2)]
    alone = frame_of(*busy).iloc[0]
    among = (
        frame_of(*busy, made("b", outcome=Outcome.OOM, batch=2), made("c", 1.2, batch=3))
        .set_index("run_key")
        .loc["a"]
    )
    for row in (alone, among):
        assert (row["attempt"], row["speedup/processes"], row["speedup/ratio"]) == (2, 1, pytest.approx(1.1))


def test_an_attempt_that_withheld_its_verdict_is_not_pooled_with_others():
    busy = withheld("k", 1.5, attempt=2)
    row = frame_of(made("k", 1.1, attempt=1), busy, made("k", 1.12, attempt=3)).iloc[0]
    assert (row["speedup/processes"], bool(row["withheld"])) == (2, False)
    row = frame_of(made("k", 1.1, attempt=1), busy).iloc[0]
    assert (row["attempt"], row["speedup/processes"], bool(row["withheld"])) == (1, 1, False)
    row = frame_of(busy).iloc[0]
    assert (row["verdict"], bool(row["withheld"])) == ("inconclusive", True)


def test_other_outcomes_of_a_key_are_as_before():
    runs = [made("k", 1.1, attempt=1), made("k", attempt=2, outcome=Outcome.OOM), made("k", 1.2, attempt=3),
            made("k", attempt=4, outcome=Outcome.KILLED)]  # fmt: skip
    row = frame_of(*runs).iloc[0]
    assert (row["attempt"], row["speedup/processes"]) == (3, 2)
    assert frame_of(*runs[:2])["outcome"].tolist() == ["oom"]
    assert compared(frame_of(*runs[:2])).empty


def test_break_evens_use_the_pooled_intervals():
    def curve(attempts: int):
        return [made(f"m{m}", 0.8 * m**0.06 * (1 + 0.03 * n), spread=0.002, shape=(m, 512, 512), attempt=n)
                for m in (1, 16, 256, 4096) for n in range(attempts)]  # fmt: skip

    once, thrice = (breakeven_table(standing(frame_of(*curve(n)))).iloc[0] for n in (1, 3))
    wide, narrow = (row["straight_high"] / row["straight_low"] for row in (thrice, once))
    assert wide > 2 * narrow


def with_error(run: Made, error: float) -> Made:
    """As records tell it since they have it."""
    run.record.metrics["speedup/error"] = error
    return run


def test_the_pooled_error_is_what_the_interval_is_made_of():
    """Recorded, with what differs between processes, and of several processes; empty of older records."""
    others = [
        several(f"o{n}", s, s * 1.02, s * 1.01, batch=n + 2) for n, s in enumerate((0.6, 0.8, 1.0, 1.5))
    ]
    alone = frame_of(with_error(made("a", 1.2), 0.004), made("older", 1.2, batch=2)).set_index("run_key")
    assert alone.loc["a", "speedup/pooled_error"] == 0.004
    assert math.isnan(alone.loc["older", "speedup/pooled_error"])
    among = frame_of(with_error(made("a", 1.2), 0.004), *others).set_index("run_key")
    assert among.loc["a", "speedup/pooled_error"] == pytest.approx(math.hypot(0.004, 0.01), rel=0.05)
    assert among.loc["a", "speedup/error"] == 0.004
    pair = frame_of(several("k", 1.10, 1.12, 1.14)).iloc[0]
    half = math.log(pair["speedup/ci_high"] / pair["speedup/ci_low"]) / 2
    assert half / pair["speedup/pooled_error"] == pytest.approx(4.303, rel=1e-3)  # t of 2 degrees


def test_break_evens_of_older_and_newer_records_stand_beside_each_other():
    def curve(error: float | None, quant: str):
        runs = [made(f"{quant}{m}", 0.8 * m**0.06, spread=0.03, shape=(m, 512, 512), quant=quant)
                for m in (1, 16, 256, 4096)]  # fmt: skip
        return [with_error(run, error) if error else run for run in runs]

    found = breakeven_table(standing(frame_of(*curve(0.03 / 3.182, "int8dq"), *curve(None, "int8wo"))))
    newer, older = (found[found["quant"] == quant].iloc[0] for quant in ("int8dq", "int8wo"))
    assert newer["m"] == pytest.approx(older["m"])
    for row in (newer, older):
        assert row["m_low"] < row["m"] < row["m_high"]
    assert newer["seen"] >= older["seen"]
    widths = [math.log(row["straight_high"] / row["straight_low"]) for row in (newer, older)]
    assert widths[0] == pytest.approx(widths[1], rel=0.25)  # both are 95 % of the same interval


def test_an_interval_over_decades_leaves_the_figures_readable():
    frame = frame_of(several("wide", 0.2, 0.5), made("narrow", 1.1, batch=2, device="another CPU"))
    assert frame["speedup/ci_high"].max() > 100
    low, high = speedup_range(frame, 0.02)
    assert 0.05 < low < 0.2
    assert 1.1 < high < 5


@pytest.mark.parametrize(
    "text", ["[[1.1,1.09,1.11],[1.", "[[1.1,1.09],[1.1,1.09]]", '{"a":1}', "[[0,0,0],[1,1,1]]"]
)
def test_what_cannot_be_read_of_processes_counts_for_nothing_and_says_so(text):
    def cut(run: Made) -> Run:
        found = run_of(run)
        found.data.tags["processes"] = text
        return found

    row = tidy([cut(several("k", 1.1, 1.12))], 0.02).iloc[0]
    assert (row["verdict"], row["outcome"]) == ("", "ok")
    assert "cannot be read" in row["reason"]
    frame = tidy([run_of(made("k", 1.2, attempt=1)), cut(several("k", 1.1, 1.12, attempt=2))], 0.02)
    assert frame[["attempt", "speedup/processes"]].to_numpy().tolist() == [[1, 1]]
    assert frame["speedup/ratio"].tolist() == [pytest.approx(1.2)]


def measured_on(run: Made, device: str, dtype: str = "bfloat16", **told: object) -> Made:
    """On a device with an identity, against a dtype, and what else its record tells of how."""
    run.record.device = {"name": device, "identity": {"uuid": device}}
    run.record.details |= {"baseline": {"dtype": dtype, "text": dtype}, **told}
    return run


def test_attempts_of_one_key_on_two_devices_are_two_rows():
    """A cluster's key says what was asked for: any card."""
    on_a, on_b = (measured_on(made("k", s, attempt=n), f"card {n}") for n, s in ((1, 1.3), (2, 0.9)))
    rows = frame_of(on_a, on_b, measured_on(made("k", 1.31, attempt=3), "card 1")).set_index("device")
    assert rows["verdict"].to_dict() == {"card 1": "helps", "card 2": "hurts"}
    assert rows["speedup/processes"].to_dict() == {"card 1": 2, "card 2": 1}


def test_an_attempt_that_ended_before_its_device_was_known_is_no_row_of_its_own():
    lost = made("k", attempt=2, outcome=Outcome.LOST)
    lost.record.device = {}
    frame = frame_of(measured_on(made("k", 1.3), "card A"), lost)
    assert frame[["device", "outcome"]].to_numpy().tolist() == [["card A", "ok"]]


@pytest.mark.parametrize(
    "other", [{"dtype": "float16"}, {"pairing": "in_turn"}, {"power_cap": {"counts": "blocks"}}]
)
def test_only_attempts_in_the_manner_of_the_newest_are_pooled(other):
    first = measured_on(made("k", 2.0), "card", **other)
    if "power_cap" in other:
        first.record.metrics["speedup/alternating_ratio"] = 2.0
    row = frame_of(first, measured_on(made("k", 0.97, attempt=2), "card")).iloc[0]
    assert (row["speedup/processes"], row["speedup/ratio"], row["verdict"]) == (1, 0.97, "hurts")


def test_attempts_that_do_not_say_how_they_were_measured_are_pooled_with_any():
    older = measured_on(made("k", 0.98), "card")
    del older.record.details["pairing"], older.record.details["baseline"]
    row = frame_of(older, measured_on(made("k", 0.97, attempt=2), "card")).iloc[0]
    assert row["speedup/processes"] == 2


@pytest.mark.parametrize("inside", [True, False], ids=["of a run", "of attempts"])
def test_processes_in_turn_keep_the_drift_that_no_round_shows(inside):
    """Three of 1.04 in turn are no surer of it than one is: the baseline came first in each."""
    speedups, own = (1.039, 1.04, 1.041), {"error": math.hypot(0.002, 0.05)}
    if inside:
        runs = [several("k", *speedups, half=0.1, own=own)]
    else:
        runs = [with_error(made("k", s, attempt=n), own["error"]) for n, s in enumerate(speedups)]
    for run in runs:
        run.record.details["pairing"] = "in_turn"
    row = frame_of(*runs).iloc[0]
    assert (row["speedup/processes"], row["verdict"]) == (3, "inconclusive")
    assert math.log(row["speedup/ci_high"] / row["speedup/ratio"]) == pytest.approx(1.96 * 0.05, rel=0.01)
    for run in runs:
        run.params["measure.in_turn_drift"] = "0.001"
    assert frame_of(*runs).iloc[0]["verdict"] == "helps"


def test_no_break_even_is_made_of_runs_with_cold_and_with_warm_caches():
    def curve(cache: str):
        for m in (1, 16, 256, 4096):
            run = made(f"{cache}{m}", (1.5 if cache == "warm" else 0.8) * m**0.06, shape=(m, 512, 512))
            run.record.details["cache"] = cache
            yield run

    found = breakeven_table(standing(frame_of(*curve("cold"), *[*curve("warm")][::2])))
    assert found[["variant", "case", "points"]].to_numpy().tolist() == [
        ["", "crosses", 4],
        ["cache=warm", "helps", 2],
    ]
