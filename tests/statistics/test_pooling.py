"""Pooling the processes of a run: Student's t where nothing else is known, and the other runs' spread where it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from src.statistics.pooling import Between, between_others, in_words, pool
from src.statistics.process import Process
from tests.statistics.simulated_processes import alone, among, by_few, by_formula, outcome, processes

logs = st.floats(-1.5, 1.5)
errors = st.floats(0.0005, 0.05)
PRIOR = Between(0.03, 12.0, 6)


def process(log: float, error: float = 0.003) -> Process:
    half = stats.norm.ppf(0.975) * error
    return Process(math.exp(log), math.exp(log - half), math.exp(log + half), error)


several = st.lists(st.tuples(logs, errors), min_size=2, max_size=6).map(lambda xs: [process(*x) for x in xs])


@settings(deadline=None)
@given(logs, errors)
def test_a_single_process_of_an_unknown_device_keeps_its_interval_and_that_is_said(log, error):
    only = process(log, error)
    found = pool([only])
    assert (found.speedup, found.ci_low, found.ci_high) == (only.speedup, only.ci_low, only.ci_high)
    assert (found.processes, found.between_sd) == (1, None)
    assert found.interval == "1 process: what differs between processes is not in its interval"


@settings(deadline=None)
@given(several)
def test_several_processes_get_students_interval_of_their_mean(several):
    values, found = [each.log for each in several], pool(several)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert math.log(found.speedup) == pytest.approx(np.mean(values), abs=1e-9)
    assert math.log(found.ci_high) - math.log(found.speedup) == pytest.approx(half, abs=1e-9)
    assert found.interval == f"{len(values)} processes"


@settings(deadline=None)
@given(several, st.floats(0.5, 2), st.sampled_from([None, PRIOR]))
def test_units_and_directions_do_not_matter(several, factor, prior):
    found = pool(several, prior=prior)
    scaled = pool(
        [Process(*(factor * x for x in (p.speedup, p.ci_low, p.ci_high)), p.error) for p in several],
        prior=prior,
    )
    turned = pool(
        [Process(1 / p.speedup, 1 / p.ci_high, 1 / p.ci_low, p.error) for p in several[::-1]], prior=prior
    )
    assert [scaled.speedup, scaled.ci_low, scaled.ci_high] == pytest.approx(
        [factor * found.speedup, factor * found.ci_low, factor * found.ci_high]
    )
    assert [turned.speedup, turned.ci_low, turned.ci_high] == pytest.approx(
        [1 / found.speedup, 1 / found.ci_high, 1 / found.ci_low]
    )


@settings(deadline=None)
@given(logs, errors, st.floats(0, 0.1), st.floats(3, 100))
def test_other_runs_never_narrow_a_single_process(log, error, sd, df):
    only, found = process(log, error), pool([process(log, error)], prior=Between(sd, df, 5))
    assert found.ci_low <= only.ci_low * (1 + 1e-9)
    assert found.ci_high >= only.ci_high * (1 - 1e-9)
    assert found.interval == f"1 process; between-process spread of {sd:.1%} from 5 other runs of this device"


@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_drift_that_processes_share_is_not_averaged_out(count, prior):
    """Arms in turn: in every process the baseline came first."""
    logs, error = [0.03 + 0.001 * n for n in range(count)], math.hypot(0.003, 0.05)
    plain = pool([process(log) for log in logs], prior=prior)
    in_turn = pool([Process(math.exp(log), 1.0, 1.0, error, shared=0.05) for log in logs], prior=prior)
    halves = [math.log(found.ci_high / found.speedup) for found in (plain, in_turn)]
    assert halves[1] == pytest.approx(math.hypot(halves[0], stats.norm.ppf(0.975) * 0.05), rel=1e-6)
    assert in_turn.between_sd == pytest.approx(plain.between_sd, abs=1e-6)
    assert in_turn.error == pytest.approx(math.hypot(plain.error, 0.05), rel=1e-6)


@pytest.mark.parametrize("confidence", [0.95, 0.999])
@pytest.mark.parametrize("apart", [10.0, 1e6])
def test_processes_far_apart_say_nothing_and_are_no_error(apart, confidence):
    found = pool([Process(1.0, 1.0, 1.0, 0.0), Process(apart, apart, apart, 0.0)], confidence)
    assert found.speedup == pytest.approx(math.sqrt(apart))
    assert 0 < found.ci_low < 1e-3
    assert 1e3 < found.ci_high < math.inf


def test_too_little_known_of_others_leaves_a_single_process_alone_but_helps_two():
    little = Between(0.01, 2.0, 2)
    assert pool([process(0.1)], prior=little) == pool([process(0.1)])
    two = [process(0.1), process(0.11)]
    assert pool(two, prior=little).ci_low > pool(two).ci_low


def test_more_processes_narrow_the_interval_that_other_runs_widened():
    widths = [math.log((p := pool([process(0.1)] * n, prior=PRIOR)).ci_high / p.ci_low) for n in (1, 2, 3, 5)]
    assert widths == sorted(widths, reverse=True)


def test_the_spread_of_a_device_comes_from_runs_of_several_processes():
    assert between_others([[process(0.1)], [process(0.2)]]) is None
    rng = np.random.default_rng(3)
    runs = [processes(rng, 3, 0.03, by_formula()) for _ in range(200)]
    found = between_others([*runs, [process(0.5)]])
    assert found is not None
    assert (found.runs, found.sd) == (200, pytest.approx(0.03, rel=0.1))
    assert found.df > 50


def test_a_spread_that_differs_from_run_to_run_is_less_known():
    rng = np.random.default_rng(4)
    alike = [processes(rng, 3, 0.01, by_formula(0.001)) for _ in range(30)]
    unlike = [
        processes(rng, 3, 0.01 * factor, by_formula(0.001)) for factor in (0.2, 1, 5) for _ in range(10)
    ]
    found = [between_others(runs) for runs in (alike, unlike)]
    assert all(found)
    assert found[0].df > 10 > found[1].df >= 3


def test_processes_that_agree_to_the_last_digit_are_no_error():
    found = pool([Process(1.1, 1.1, 1.1, 0.0)] * 3)
    assert (found.ci_low, found.ci_high) == (pytest.approx(1.1), pytest.approx(1.1))
    between = between_others([[Process(1.1, 1.1, 1.1, 0.0)] * 3] * 4)
    assert between == Between(0.0, pytest.approx(8, abs=8), 4, pytest.approx(0.0, abs=1e-12))
    with pytest.raises(ValueError, match="no process"):
        pool([])


@pytest.mark.parametrize("between", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("count", [3, 5])
def test_intervals_hold_the_truth_and_no_effect_is_rarely_called_one(between, count):
    """What `benchmarks/processes.py` prints, with fewer experiments; one process said helps or hurts in 38 %."""
    found = outcome(1000, alone(count, between, by_formula()))
    assert 0.93 <= found.covered <= 0.97
    assert found.false <= 0.05


def test_one_process_alone_is_what_cannot_be_trusted():
    assert outcome(500, alone(1, 0.03, by_formula())).false > 0.3


@pytest.mark.parametrize(("runs", "each"), [(4, 2), (6, 3)])
def test_one_process_among_other_runs_of_its_device_can(runs, each):
    found = outcome(600, among(1, 0.03, by_formula(), runs=runs, each=each))
    assert 0.925 <= found.covered <= 0.985
    assert found.false <= 0.05


@pytest.mark.parametrize(
    ("few", "told"), [((7, 0.011, 0.98), 0.8), ((3, 0.02, 0.98), 0.3), ((4, 0.006, 0.95), 0.95)]
)
def test_other_runs_of_few_pairs_hide_no_spread(few, told):
    """Their intervals are 3 to 7 errors wide on either side; taken for 2, nothing was left between processes."""
    found = outcome(300, among(1, 0.02, by_formula(), runs=6, each=3, others=by_few(*few)), told=True)
    assert found.told > told
    assert found.covered >= 0.94
    assert found.false <= 0.03


def test_runs_too_noisy_to_tell_leave_a_single_process_alone_and_narrow_ones_tell_it_all_the_same():
    rng = np.random.default_rng(5)
    noisy = [[process(at, 0.06) for at in (0.1, 0.12, 0.15)]] * 12
    narrow = [processes(rng, 3, 0.01, by_formula()) for _ in range(12)]
    only = process(0.1)
    assert pool([only], prior=between_others(noisy)) == pool([only])
    told = pool([only], prior=between_others([*noisy, *narrow]))
    assert told.interval != in_words(1, None)
    assert math.log(told.ci_high / told.ci_low) > 0.03


@pytest.mark.parametrize("few", [(7, 0.011, 0.98), (3, 0.02, 0.98), (4, 0.006, 0.95), (20, 0.003, 0.95)])
def test_an_error_that_was_not_recorded_is_never_taken_for_more_than_it_was(few):
    measured = by_few(*few)(np.random.default_rng(6), 0.1)
    derived = Process.of((measured.speedup, measured.ci_low, measured.ci_high), math.nan, few[0], 0.95)
    assert 0.5 * measured.error < derived.error <= measured.error * (1 + 1e-6)
