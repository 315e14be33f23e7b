"""What experiments say of the instrument: a good one passes, a biased one and a blind one do not."""

from collections.abc import Sequence

import pytest

from src.calibration.experiments.plan import Experiment, Kind
from src.calibration.summary import Status, Summary, summarize
from tests.calibration.synthetic import MEASURE, instrument


def said(experiments: Sequence[Experiment]) -> Summary:
    return summarize(experiments, MEASURE)


def statuses(summary: Summary) -> dict[str, Status]:
    return {requirement.name: requirement.status for requirement in summary.requirements}


def test_a_good_instrument_meets_every_requirement() -> None:
    summary = said(instrument())
    assert set(statuses(summary)) == {
        "aa_false_rate", "found_rate_3pct", "found_rate_5pct", "found_rate_10pct", "harness_bias"
    }  # fmt: skip
    assert set(statuses(summary).values()) == {Status.MET}
    assert summary.status is Status.MET
    assert summary.preset is not None
    assert summary.preset.smallest_found == 0.03
    assert [group.n for group in summary.groups] == [60] * 5


def test_a_biased_instrument_tells_equal_copies_apart() -> None:
    summary = said(instrument(bias=0.04))
    assert summary.status is Status.NOT_MET
    assert summary.failed[0].name == "aa_false_rate"
    assert summary.groups[0].bias is not None
    assert summary.groups[0].bias.value == pytest.approx(0.04, abs=0.002)


def test_a_blind_instrument_finds_no_slowdown() -> None:
    summary = said(instrument(sensitivity=0.0))
    assert summary.status is Status.NOT_MET
    assert statuses(summary)["aa_false_rate"] is Status.MET
    assert {each.name for each in summary.failed} == {
        "found_rate_3pct",
        "found_rate_5pct",
        "found_rate_10pct",
    }
    assert summary.preset is not None
    assert summary.preset.smallest_found is None


def test_wide_intervals_cost_the_small_slowdowns_first() -> None:
    summary = said(instrument(half_width=0.012))
    assert statuses(summary)["found_rate_3pct"] is Status.NOT_MET
    assert statuses(summary)["found_rate_10pct"] is Status.MET
    assert summary.preset is not None
    assert summary.preset.smallest_found == 0.05


def test_rounds_that_last_longer_than_a_bare_loops_are_no_match() -> None:
    assert statuses(said(instrument(loop_bias=0.01)))["harness_bias"] is Status.NOT_MET
    assert statuses(said(instrument(loop_bias=0.005)))["harness_bias"] is Status.UNDECIDED
    assert statuses(said(instrument(loop_bias=-0.003)))["harness_bias"] is Status.MET


def test_too_few_experiments_decide_nothing_but_what_they_rule_out() -> None:
    few = said(instrument(experiments=4, processes=4))
    assert few.status is Status.UNDECIDED
    assert statuses(few)["aa_false_rate"] is Status.UNDECIDED
    blind = said(instrument(sensitivity=0.0, experiments=4, processes=4))
    assert statuses(blind)["found_rate_5pct"] is Status.NOT_MET
    assert few.preset is not None
    assert few.preset.smallest_found is None
    missed = [e for e in instrument(sensitivity=0.0, experiments=1, processes=1) if e.slowdown == 0.05]
    assert statuses(said(missed))["found_rate_5pct"] is Status.UNDECIDED
    assert said([]).status is Status.UNDECIDED


def test_crowded_experiments_do_not_count() -> None:
    summary = said(instrument(crowded=0.2))
    assert summary.status is Status.MET
    assert summary.crowded > 20
    assert summary.false_rate.of == 60 - sum(
        each.crowded for each in instrument(crowded=0.2) if each.kind is Kind.AA
    )


def test_all_crowded_is_undecided() -> None:
    assert said(instrument(crowded=1.0)).status is Status.UNDECIDED


@pytest.mark.parametrize(("second", "arm"), [(0.003, 0.0), (0.0, 0.003), (-0.002, 0.004)])
def test_the_order_of_construction_is_told_from_the_role_in_the_loop(second: float, arm: float) -> None:
    summary = said(instrument(built_second=second, second_arm=arm))
    for found, truth in ((summary.built_second, second), (summary.second_arm, arm)):
        assert found is not None
        assert found.value == pytest.approx(truth, abs=0.001)
        assert len(found.values) == 12


def test_the_margin_says_which_slowdowns_must_be_found() -> None:
    from dataclasses import replace

    names = {each.name for each in summarize(instrument(), replace(MEASURE, margin=0.05)).requirements}
    assert names == {"aa_false_rate", "found_rate_10pct", "harness_bias"}
