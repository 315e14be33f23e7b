"""What a run said of itself beside what an analysis says of it; why verdicts are withheld; digits that tell."""

import pandas as pd
import pytest

from src.analysis.provenance import Provenance, warnings
from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.verdicts import interval_text, speedup_text
from src.config.schema.root import TrackingConf
from src.report.logged import headline
from src.report.runs.filters import Filters
from src.report.runs.sections import forest_section
from src.report.runs.starts import START, starts_in_words
from src.report.runs.tables import grouped_html
from src.report.words import sentences
from tests.analysis.synthetic import made

SAID = "the interval 1.003-1.023 crosses the margin of 2%; measuring ended by budget after 27 pairs"
NARROW = "a larger measure.budget_s, or measure=standard"


@pytest.fixture
def at(store):
    def frame(margin, *runs, withheld=False):
        name, _ = store.experiment(runs)
        for run in runs if withheld else ():
            store.client.set_tag(run.run_ids[0], "withheld", "1")
        return standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), margin))

    return frame


def crossing(key="k", more=""):
    run = made(key, 1.013, spread=0.01, reason=f"{more}{SAID}")
    run.record.verdict, run.record.remedy = "inconclusive", NARROW
    return run


@pytest.mark.parametrize(
    ("margin", "verdict", "reason", "remedy"),
    [
        (0.02, "inconclusive", SAID, NARROW),
        (0.05, "neutral", "", ""),
        (0.001, "helps", "", ""),
        (0.01, "inconclusive", "the interval 1.003-1.023 crosses the margin of 1%", NARROW),
        (0.005, "inconclusive", "the interval 1.003-1.023 crosses the margin of 0.5%", NARROW),
    ],
)
def test_what_a_run_said_of_its_margin_stands_beside_no_other_verdict(at, margin, verdict, reason, remedy):
    row = at(margin, crossing()).iloc[0]
    assert (row["verdict"], row["reason"], row["remedy"]) == (verdict, reason, remedy)


def test_what_else_a_run_said_stays(at):
    assert at(0.05, crossing(more="compiled twice; ")).iloc[0]["reason"] == "compiled twice"


def test_a_verdict_that_is_open_here_alone_says_so(at):
    row = at(0.05, made("k", 1.05, spread=0.01)).iloc[0]
    assert row["reason"] == "the interval 1.040-1.061 crosses the margin of 5%"


@pytest.mark.parametrize(
    ("reason", "told", "not_told"),
    [
        ("the device slowed itself down (sw_power_cap) in 3 pairs", "better cooling", "other processes"),
        ("2 graphs were compiled again while rounds were timed", "TORCH_LOGS=recompiles", "other processes"),
        ("other processes used 3 CPUs while 2 threads were measured", "other processes kept", "cooling"),
    ],
)
def test_a_verdict_is_withheld_for_what_disturbed_it(at, reason, told, not_told):
    run = made("t", 1.5, reason=reason)
    run.record.verdict = "inconclusive"
    run.record.metrics |= {START: 1.0, "package/compile_cold_s": 3.0, "package/compile_cached_s": 2.0}
    rows = at(0.02, run, withheld=True)
    line = warnings(rows, Provenance(1, 1), 0)[0]
    assert line.startswith("1 of 1 run withholds its verdict, for ")
    assert told in line
    assert not_told not in line
    (starts,) = starts_in_words(rows)
    assert ("Other processes" in starts) is (not_told != "other processes")


def test_a_disturbed_run_is_not_taken_off_those_that_are_inconclusive(at):
    """One of before there was the tag says another verdict than its interval does, and so it is withheld."""
    old = made("old", 1.013, spread=0.01, batch=2)
    old.record.verdict = "helps"
    rows = at(0.02, old, crossing("new"), made("sure", 1.5, batch=4))
    assert rows["withheld"].sum() == 1
    told = warnings(rows, Provenance(3, 3), 0)
    assert any(line.startswith("1 of 3 runs with a speedup are inconclusive") for line in told)


def test_speedups_of_disturbed_runs_and_controls_are_in_no_summary(at):
    busy = made("busy", 3.0, batch=4)
    busy.record.verdict = "inconclusive"
    rows = at(0.02, made("a", 1.1), busy, made("c", 1.2, quant="none", batch=8))
    assert rows["withheld"].sum() == 1
    page = grouped_html(rows, Filters(rows))
    assert "1.10× <small>1.10–1.10</small>" in page
    found = headline(rows, pd.DataFrame({"m": []}))
    assert found["speedup/best"] == found["speedup/worst"] == pytest.approx(1.1)


def test_a_margin_is_told_with_all_its_digits(at):
    rows = at(0.025, made("a", 1.2), made("b", 1.1, quant="int8wo"))
    assert "a margin of 2.5% " in sentences(rows, rows.iloc[:0].assign(compile=""), 0.025)[0]
    assert "±0.4%" in forest_section(rows, 0.004, Filters(rows))


@pytest.mark.parametrize(
    ("margin", "speedup", "spread", "told"),
    [
        (0.02, 0.0016, 0.1, "0.0016× 0.00145–0.00177"),
        (0.0, 1.003, 0.001, "1.003× 1.002–1.004"),
        (0.0, 0.997, 0.001, "0.997× 0.996–0.998"),
        (0.02, 1.21, 0.01, "1.21× 1.20–1.22"),
        (0.02, 1.003, 0.001, "1.00× 1.00–1.00"),
    ],
)
def test_the_digits_of_a_speedup_tell_its_verdict(at, margin, speedup, spread, told):
    row = at(margin, made("a", speedup, spread=spread)).iloc[0]
    assert f"{speedup_text(row)} {interval_text(row)}" == told
