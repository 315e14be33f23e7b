import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from src.statistics.bootstrap import block_length
from src.statistics.speedup import (
    SpeedupEstimate,
    Verdict,
    paired_speedup,
    unpaired_speedup,
    verdict,
)
from src.statistics.stopping import StopReason, StopRule, confidence_after, is_clear, is_narrow
from src.statistics.warmup import warmed_up, warmup_end
from tests.statistics.simulation import (
    AUTOCORRELATED,
    STRESS,
    WELL_BEHAVED,
    Scenario,
    autoregressive,
    clocks,
    coverage,
    false_verdicts,
    iid,
    in_turn,
    in_turn_coverage,
    joint_coverage,
    measure_until,
    sequential_coverage,
    spikes,
    together,
)

cases = pytest.mark.parametrize
property_test = settings(max_examples=40)

# Log disturbances of 3 to 60 pairs.
noise = hnp.arrays(np.float64, st.tuples(st.integers(3, 60), st.just(2)), elements=st.floats(-0.5, 0.5))
scales = st.floats(1e-3, 1e5)  # ms


def name(scenario: Scenario) -> str:
    return scenario.name


def arms(logs: np.ndarray, scale: float = 10.0, ratio: float = 1.3) -> tuple[np.ndarray, np.ndarray]:
    return scale * np.exp(logs[:, 0]), scale / ratio * np.exp(logs[:, 1])


def numbers(estimate: SpeedupEstimate) -> tuple[float, float, float]:
    return estimate.ci_low, estimate.ratio, estimate.ci_high


# Coverage. With 500 experiments the standard error of a share near 95 % is 1.0 %; a share below 92 % or above 98.4 %
# is 3 to 3.5 of them off. The seeds are fixed, so a failure is a change of the method, not bad luck.
@cases("pairs", [3, 12, 20, 40])
@cases("scenario", WELL_BEHAVED, ids=name)
def test_interval_of_few_pairs_covers_the_truth(scenario: Scenario, pairs: int) -> None:
    assert 0.92 <= coverage(scenario, pairs, 500).covered <= 0.986


@cases("rounds", [12, 40])
@cases("scenario", WELL_BEHAVED, ids=name)
def test_interval_of_each_arm_covers_the_truth_where_rounds_hold_many(
    scenario: Scenario, rounds: int
) -> None:
    """Five arms, as four schemes of one probe: up to four rounds lie between an arm and its baseline."""
    shares = joint_coverage(scenario, 5, rounds, 300)
    assert 0.92 <= np.mean(shares) <= 0.99
    assert min(shares) >= 0.9


@cases("pairs", [70, 100])
@cases("scenario", [WELL_BEHAVED[-1]], ids=name)
def test_interval_covers_the_truth(scenario: Scenario, pairs: int) -> None:
    assert 0.92 <= coverage(scenario, pairs, 500, samples=200).covered <= 0.984


@cases("scenario", AUTOCORRELATED[2:], ids=name)
def test_autocorrelated_ratios_are_covered_at_100_pairs(scenario: Scenario) -> None:
    assert 0.91 <= coverage(scenario, 100, 500, samples=200).covered <= 0.984


@cases(("rho", "at_least"), [(0, 0.89), (1, 0.86), (-1, 0.73)])
def test_autocorrelation_at_12_pairs_is_covered_in_part(rho: int, at_least: float) -> None:
    """What is known to be out of reach stays within a known bound."""
    assert coverage(AUTOCORRELATED[rho], 12, 500).covered >= at_least


@cases(("pairs", "at_most"), [(12, 2.0), (20, 1.75), (30, 1.6), (60, 1.5)])
def test_no_tenth_interval_of_independent_pairs_is_far_too_wide(pairs: int, at_most: float) -> None:
    """The 90th percentile of the width, of an ideal t-interval's; a bootstrap alone had 5.5 at 12 pairs."""
    assert coverage(WELL_BEHAVED[0], pairs, 300, samples=200).wide < at_most


def test_the_width_has_no_seam_between_t_and_bootstrap() -> None:
    """At the ends of the blend, one pair more changes the width by what one pair does: 1 % and some luck."""
    drawn = [Scenario("", iid()).arms(np.random.default_rng(seed), 101) for seed in range(60)]
    for pairs in (40, 100):
        here, there = (
            np.median([paired_speedup(a[:n], b[:n], samples=500).relative_width for a, b in drawn])
            for n in (pairs, pairs + 1)
        )
        assert there == pytest.approx(here, rel=0.04)


@cases("scenario", STRESS, ids=name)
def test_stress_never_costs_coverage(scenario: Scenario) -> None:
    assert coverage(scenario, 30, 300).covered >= 0.915


@cases("scenario", WELL_BEHAVED[1:4:2], ids=name)
def test_interval_covers_the_truth_under_the_stop_rule(scenario: Scenario) -> None:
    rule = StopRule(min_pairs=12, max_pairs=150, target_width=0.025, budget_s=1)
    assert sequential_coverage(scenario, rule, 300, samples=200).covered >= 0.91


@cases("speedup", [0.05, 0.4])
@cases("scenario", [WELL_BEHAVED[0], WELL_BEHAVED[-1]], ids=name)
def test_interval_covers_the_truth_where_a_clear_verdict_ended_it(scenario: Scenario, speedup: float) -> None:
    rule = StopRule(12, 60, target_width=1e-6, budget_s=1, margin=0.02, clear_width=0.2)
    assert sequential_coverage(scenario, rule, 300, speedup=speedup).covered >= 0.92


@cases(("scenario", "speedup"), [(WELL_BEHAVED[-1], 1.02), (AUTOCORRELATED[-1], 1 / 1.02)])
def test_no_look_takes_the_margin_for_clear(scenario: Scenario, speedup: float) -> None:
    """The truth at the margin itself: of 150 loops with 12 looks up to 40 pairs, none ends by a clear verdict."""
    rule = StopRule(12, 40, target_width=1e-6, budget_s=1, margin=0.02, clear_width=0.2)
    for number in range(150):
        arms = scenario.arms(np.random.default_rng(number), 40, speedup)
        assert measure_until(rule, *arms)[1] is StopReason.MAX_PAIRS


@cases("scenario", WELL_BEHAVED, ids=name)
def test_equal_arms_give_no_verdict_for_either(scenario: Scenario) -> None:
    assert false_verdicts(scenario, 12, 300) <= 0.02


def test_order_effect_costs_no_width() -> None:
    plain, second = Scenario("plain", iid(0.01)), Scenario("second", iid(0.01), second=0.03)
    assert coverage(second, 30, 50).width == pytest.approx(coverage(plain, 30, 50).width, rel=0.01)


def test_slowdown_put_in_on_purpose_is_found() -> None:
    times = Scenario("noisy", together(iid(0.01), spikes(), clocks())).arms(
        np.random.default_rng(1), 60, 1 / 1.05
    )
    assert verdict(paired_speedup(*times), 0.02) is Verdict.HURTS


# Properties of the estimate.
@given(noise, scales, scales)
@property_test
def test_scale_does_not_matter(logs: np.ndarray, scale: float, other: float) -> None:
    one, another = (numbers(paired_speedup(*arms(logs, s), samples=200)) for s in (scale, other))
    assert one == pytest.approx(another, rel=1e-6)


@given(noise)
@property_test
def test_swapped_arms_invert_estimate_and_interval(logs: np.ndarray) -> None:
    baseline, treated = arms(logs)
    low, median, high = numbers(paired_speedup(baseline, treated, samples=200))
    assert numbers(paired_speedup(treated, baseline, samples=200)) == pytest.approx(
        (1 / high, 1 / median, 1 / low), rel=1e-6
    )


@given(noise, st.floats(0.5, 0.99))
@property_test
def test_interval_holds_the_estimate_and_grows_with_confidence(logs: np.ndarray, confidence: float) -> None:
    for estimator in (paired_speedup, unpaired_speedup):
        estimate = estimator(*arms(logs), confidence=confidence, samples=200)
        assert 0 < estimate.ci_low <= estimate.ratio <= estimate.ci_high < np.inf
        wider = estimator(*arms(logs), confidence=0.995, samples=200)
        assert wider.ci_low <= estimate.ci_low
        assert wider.ci_high >= estimate.ci_high


@given(st.integers(3, 60), st.floats(0.1, 10), st.integers(0, 2**32 - 1))
@property_test
def test_constant_ratio_is_exact(pairs: int, ratio: float, seed: int) -> None:
    baseline = np.random.default_rng(seed).uniform(1, 100, pairs)
    estimate = paired_speedup(baseline, baseline / ratio, samples=200)
    assert estimate.ratio == pytest.approx(ratio, rel=1e-12)
    assert estimate.relative_width == 0


@cases("estimator", [paired_speedup, unpaired_speedup])
def test_seed_matters_little(estimator: type) -> None:
    times = WELL_BEHAVED[0].arms(np.random.default_rng(0), 80)
    widths = [estimator(*times, seed=seed).relative_width for seed in range(10)]
    assert np.ptp(widths) < 0.2 * np.mean(widths)
    assert estimator(*times, seed=3) == estimator(*times, seed=3)


@given(st.integers(0, 3), st.floats(3, 1000))
@property_test
def test_outliers_of_one_arm_hardly_move_the_estimate(count: int, factor: float) -> None:
    baseline, treated = WELL_BEHAVED[0].arms(np.random.default_rng(0), 30)
    clean = paired_speedup(baseline, treated, samples=200)
    baseline[5 : 5 + count] *= factor
    dirty = paired_speedup(baseline, treated, samples=200)
    assert dirty.ratio == pytest.approx(clean.ratio, rel=0.01)
    assert dirty.relative_width < 2.5 * clean.relative_width


def test_many_ties_neither_fail_nor_end_in_a_zero_width() -> None:
    baseline = np.array([10.0] * 7 + [10.2, 9.7, 10.1, 9.9, 10.3])
    assert (
        0
        < paired_speedup(np.random.default_rng(0).permutation(baseline), np.full(12, 10.0)).relative_width
        < 0.1
    )


def test_unpaired_arms_may_differ_in_length() -> None:
    rng = np.random.default_rng(0)
    estimate = unpaired_speedup(13 * np.exp(rng.normal(0, 0.01, 30)), 10 * np.exp(rng.normal(0, 0.01, 20)))
    assert estimate.ci_low < 1.3 < estimate.ci_high
    assert estimate.pairs == 20
    assert estimate.relative_width < 0.08


def test_unpaired_interval_covers_the_truth() -> None:
    hits = 0
    for number in range(300):
        rng = np.random.default_rng(number)
        times = 11 * np.exp(rng.normal(0, 0.02, 15)), 10 * np.exp(rng.normal(0, 0.01, 25))
        estimate = unpaired_speedup(*times, samples=300)
        hits += estimate.ci_low <= 1.1 <= estimate.ci_high
    assert 0.915 <= hits / 300 <= 0.985


@cases(
    "drift", [{}, {"apart": 0.03}, {"apart": 0.05}, {"walk": 0.03}, {"walk": 0.05}, {"step": 0.05}], ids=str
)
def test_arms_in_turn_are_covered_whatever_drifts_between_them(drift: dict[str, float]) -> None:
    covered, wrong = in_turn_coverage(0.05, 200, **drift)
    assert covered >= 0.92
    assert wrong <= 0.05


def test_what_the_rounds_show_of_a_drift_widens_the_interval_by_itself() -> None:
    quiet, walking = (
        np.median([
            unpaired_speedup(*in_turn(np.random.default_rng(seed), walk=walk)).relative_width
            for seed in range(40)
        ])
        for walk in (0.0, 0.1)
    )  # fmt: skip
    assert walking > 5 * quiet


def test_a_step_beyond_the_allowance_is_not_covered() -> None:
    """What no round shows and nobody expects: said in docs/measurement.md."""
    assert in_turn_coverage(0.05, 50, step=0.16)[0] == 0


def test_blocks_follow_the_autocorrelation() -> None:
    rng = np.random.default_rng(0)
    lengths = [
        np.mean([block_length(autoregressive(rng, 200, rho, 1.0)) for _ in range(40)])
        for rho in (0, 0.5, 0.8)
    ]
    assert lengths[0] < 2.5 < 5 < lengths[1] < lengths[2] < 50


def test_a_look_is_fast() -> None:
    """50 ms on an idle core for 400 pairs and 2,000 samples (10 ms measured); slack for busy machines."""
    times = WELL_BEHAVED[0].arms(np.random.default_rng(0), 400)
    spent = []
    for _ in range(5):
        started = time.process_time()
        paired_speedup(*times)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.05


# What cannot be estimated.
@cases(
    ("baseline", "treated", "message"),
    [
        (np.ones(9), np.ones(10), "baseline_ms has 9 rounds, treated_ms 10"),
        (np.ones(2), np.ones(2), "at least 3"),
        (np.ones((8, 2)), np.ones(8), "shape"),
        (np.r_[np.ones(8), 0.0], np.ones(9), r"baseline_ms\[8\] is 0.0 ms"),
        (np.ones(9), np.r_[np.ones(4), -1.0, np.ones(4)], r"treated_ms\[4\] is -1.0 ms"),
        (np.r_[np.nan, np.ones(8)], np.ones(9), r"baseline_ms\[0\] is nan ms"),
        (np.ones(9), np.r_[np.inf, np.ones(8)], "finite and positive"),
    ],
)
def test_unusable_times_are_refused(baseline: np.ndarray, treated: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_speedup(baseline, treated)


# Verdicts.
@cases(
    ("low", "high", "expected"),
    [
        (1.03, 1.2, Verdict.HELPS),
        (0.8, 0.97, Verdict.HURTS),
        (0.99, 1.01, Verdict.NEUTRAL),
        (0.99, 1.03, Verdict.INCONCLUSIVE),
        (0.97, 1.01, Verdict.INCONCLUSIVE),
        (0.9, 1.1, Verdict.INCONCLUSIVE),
    ],
)
def test_verdict(low: float, high: float, expected: Verdict) -> None:
    estimate = SpeedupEstimate((low + high) / 2, low, high, 12, 1)
    assert verdict(estimate, 0.02) is expected
    swapped = {Verdict.HELPS: Verdict.HURTS, Verdict.HURTS: Verdict.HELPS}.get(expected, expected)
    assert verdict(SpeedupEstimate(2 / (low + high), 1 / high, 1 / low, 12, 1), 0.02) is swapped


@given(st.floats(0.5, 2), st.floats(1, 1.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_verdict_is_monotone_in_the_margin(low: float, factor: float, one: float, other: float) -> None:
    """A wider margin can only turn helps and hurts to inconclusive or neutral, and inconclusive to neutral."""
    estimate = SpeedupEstimate(low * factor**0.5, low, low * factor, 12, 1)
    strict, lax = (verdict(estimate, margin) for margin in sorted((one, other)))
    rank = {Verdict.HELPS: 0, Verdict.HURTS: 0, Verdict.INCONCLUSIVE: 1, Verdict.NEUTRAL: 2}
    assert strict is lax or rank[strict] < rank[lax]


def test_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin is -0\.1"):
        verdict(SpeedupEstimate(1.0, 0.9, 1.1, 12, 1), -0.1)


# The stop rule.
NARROW, WIDE = SpeedupEstimate(1.0, 0.998, 1.002, 20, 1), SpeedupEstimate(1.0, 0.9, 1.1, 20, 1)


def test_narrow_at_two_looks_in_a_row_stops() -> None:
    rule = StopRule(min_pairs=12, max_pairs=400, target_width=0.01, budget_s=10)
    assert is_narrow(NARROW, 0.01)
    assert not is_narrow(WIDE, 0.01)
    said = [
        rule.decide(20 + i, 1.0, look) for i, look in enumerate([NARROW, None, WIDE, NARROW, None, NARROW])
    ]
    assert said == [None, None, None, None, None, StopReason.NARROW]


def test_stop_reasons() -> None:
    rule = StopRule(min_pairs=12, max_pairs=400, target_width=0.01, budget_s=10)
    assert rule.decide(11, 99.0, None) is None
    assert rule.decide(12, 9.9, WIDE) is None
    assert rule.decide(12, 10.0, None) is StopReason.BUDGET
    assert rule.decide(400, 1.0, NARROW) is StopReason.MAX_PAIRS
    assert rule.decide(400, 1.0, NARROW) is StopReason.NARROW


def clear(low: float, high: float, pairs: int = 12) -> bool:
    return is_clear(SpeedupEstimate((low * high) ** 0.5, low, high, pairs, 0), 0.02, 0.2)


def test_a_verdict_is_clear_far_beyond_the_margin_only() -> None:
    assert clear(0.39, 0.41)
    assert clear(1 / 0.41, 1 / 0.39)
    assert not clear(0.35, 0.45)
    assert not clear(0.99, 1.01)
    assert not clear(1.021, 1.06)
    assert not clear(0.39, 0.41, pairs=3)  # so narrow by luck, as like as not
    assert clear(0.0485, 0.0515, pairs=3)


@given(st.floats(0.01, 100), st.floats(1.0001, 2), st.integers(3, 400), st.floats(0, 1))
def test_a_clear_verdict_helps_or_hurts(low: float, factor: float, pairs: int, clear_width: float) -> None:
    estimate = SpeedupEstimate(low * factor**0.5, low, low * factor, pairs, 0)
    if is_clear(estimate, 0.02, clear_width):
        assert verdict(estimate, 0.02) in (Verdict.HELPS, Verdict.HURTS)


def test_a_clear_verdict_ends_it_below_the_minimum_of_pairs_unless_turned_off() -> None:
    slow = SpeedupEstimate(0.05, 0.049, 0.051, 3, 0)
    for clear_width, said in ((0.2, StopReason.CLEAR), (0.0, None)):
        rule = StopRule(12, 400, target_width=0.01, budget_s=10, margin=0.02, clear_width=clear_width)
        assert rule.decide(3, 1.0, slow) is said
        assert rule.next_look(0) == (3 if said else 12)


def test_the_interval_at_a_clear_verdict_is_wider() -> None:
    assert confidence_after(StopReason.CLEAR, 0.95) == pytest.approx(0.98)
    assert confidence_after(StopReason.NARROW, 0.95) == 0.95


def test_looks_grow_by_a_quarter_up_to_the_last() -> None:
    rule = StopRule(min_pairs=12, max_pairs=40, target_width=0.01, budget_s=10)
    looks = [rule.next_look(0)]
    while looks[-1] < 40:
        looks.append(rule.next_look(looks[-1]))
    assert looks == [12, 15, 19, 24, 30, 38, 40]
    assert rule.next_look(40) == 40
    rule, looks = StopRule(12, 40, target_width=0.01, budget_s=10, clear_width=0.2), [3]
    while looks[-1] < 40:
        looks.append(rule.next_look(looks[-1]))
    assert looks == [3, 4, 5, 7, 9, 12, 15, 19, 24, 30, 38, 40]


@cases(("least", "most"), [(2, 400), (30, 20)])
def test_impossible_rule_is_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"min_pairs is {least}"):
        StopRule(min_pairs=least, max_pairs=most, target_width=0.01, budget_s=10)


def test_quiet_arms_stop_early_and_noisy_ones_at_the_last_pair() -> None:
    rule = StopRule(min_pairs=12, max_pairs=60, target_width=0.01, budget_s=10)
    quiet, noisy = (
        measure_until(rule, *Scenario("", iid(s)).arms(np.random.default_rng(0), 60)) for s in (0.002, 0.1)
    )
    assert (quiet[0].pairs, quiet[1]) == (15, StopReason.NARROW)
    assert (noisy[0].pairs, noisy[1]) == (60, StopReason.MAX_PAIRS)


# Warm-up.
def series(shape: np.ndarray, seed: int = 0, sigma: float = 0.01) -> np.ndarray:
    return 10 * shape * np.exp(np.random.default_rng(seed).normal(0, sigma, shape.size))


@cases("seed", range(5))
@cases(
    ("shape", "earliest", "latest"),
    [
        (np.ones(20), 0, 1),
        (np.r_[100, np.ones(20)], 1, 2),
        (np.r_[100, 3, 2, np.ones(20)], 3, 4),
        (1 + np.exp(-np.arange(60) / 5), 10, 22),
        (np.r_[np.full(15, 1.3), np.ones(30)], 15, 16),
    ],
    ids=["steady", "compiles at first", "three slow", "decays", "steps"],
)
def test_warmup_end(shape: np.ndarray, earliest: int, latest: int, seed: int) -> None:
    assert earliest <= warmup_end(series(shape, seed)) <= latest


@cases("seed", range(5))
@cases(
    "shape",
    [
        np.ones(7),
        1 + np.exp(-np.arange(12) / 5),
        np.exp(0.02 * np.arange(40)),
        np.r_[np.ones(20), np.full(4, 1.5)],
    ],
    ids=["too few", "decaying", "rising", "just stepped"],
)
def test_not_warmed_up(shape: np.ndarray, seed: int) -> None:
    times = series(shape, seed)
    assert not warmed_up(times)
    assert warmup_end(times) == times.size


def test_spikes_and_clocks_do_not_keep_a_series_from_being_warm() -> None:
    """Asked after every round, as the paired loop does."""
    for seed in range(50):
        times = np.exp(together(iid(0.01), spikes(), clocks())(np.random.default_rng(seed), 60))
        assert any(warmed_up(times[:rounds]) for rounds in range(8, 61))


def test_no_rounds_are_not_warm() -> None:
    assert warmup_end(np.array([])) == 0
    assert not warmed_up(np.array([]))
    with pytest.raises(ValueError, match=r"series_ms\[0\] is -1.0"):
        warmup_end(np.array([-1.0]))


def test_the_order_within_pairs_is_taken_out_wherever_the_baseline_came_first() -> None:
    first = np.array([True, True, False, False] * 5)
    logs = np.where(first, 0.05, -0.05)
    treated = np.full(first.size, 10.0)
    baseline = 10.0 * np.exp(logs)
    known = paired_speedup(baseline, treated, first=first)
    assert (known.ratio, known.relative_width) == pytest.approx((1.0, 0.0), abs=1e-9)
    assert paired_speedup(baseline, treated).relative_width > 0.01
