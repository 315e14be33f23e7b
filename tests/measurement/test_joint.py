"""Rounds of several treated arms against one baseline, driven by a clock of its own."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from src.measurement.joint import balanced_order, measure_jointly
from src.measurement.rounds import Rounds, estimate_speedup
from src.outcomes import RunEndedError
from tests.measurement.test_paired import CONF, CPU, Clock, clock  # noqa: F401 - a fixture

FEW = replace(CONF, max_warmup_s=0.0, max_pairs=12)


@pytest.fixture(autouse=True)
def joint_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from src.measurement import paired

    monkeypatch.setattr("src.measurement.joint.time", paired.time)


def measured(*calls, conf=FEW, **options):
    rounds = [Rounds() for _ in calls[1:]]
    measure_jointly(calls[0], calls[1:], CPU, conf, rounds=rounds, **options)
    return rounds


@pytest.mark.parametrize("arms", [2, 3, 4, 5, 8, 9])
def test_every_arm_stands_in_every_place_and_follows_every_other_equally_often(arms):
    orders = [balanced_order(arms, index) for index in range(2 * arms)]
    assert all(sorted(order) == list(range(arms)) for order in orders)
    assert all(orders[index + 1] == orders[index][::-1] for index in range(0, 2 * arms, 2))
    places = np.array([[order.index(arm) for order in orders] for arm in range(arms)])
    assert all((np.bincount(row, minlength=arms) == 2).all() for row in places)
    follows = np.zeros((arms, arms), int)
    for order in orders:
        for before, after in pairwise(order):
            follows[before, after] += 1
    assert set(follows[~np.eye(arms, dtype=bool)]) == {2}


def test_each_treated_arm_has_its_own_times_beside_the_baselines(clock):  # noqa: F811
    costs = {"A": 3.0, "B": 2.0, "C": 1.5, "D": 6.0}
    rounds = measured(*(clock.arm(name, ms, noise=0) for name, ms in costs.items()))
    for own, ms in zip(rounds, [2.0, 1.5, 6.0], strict=True):
        assert own.baseline_ms == pytest.approx([3.0] * 12)
        assert own.treated_ms == pytest.approx([ms] * 12)
        assert own.order.count("AB") == own.order.count("BA") == 6
        assert own.arms == 4
        assert estimate_speedup(own, CONF).ratio == pytest.approx(3.0 / ms)
    assert [clock.calls[12:].count(name) for name in costs] == [12] * 4


def test_an_arm_whose_ratio_is_known_drops_out(clock):  # noqa: F811
    conf = replace(CONF, max_warmup_s=0.0, clear_width=0.2)
    arms = [clock.arm("A", 2.0), clock.arm("B", 40.0), clock.arm("C", 2.0, noise=0.05)]
    slow, noisy = measured(*arms, conf=conf)
    assert (slow.stop_reason, noisy.stop_reason) == ("clear", "max_pairs")
    assert len(slow.treated_ms) < 6 < len(noisy.treated_ms) == 60
    assert len(noisy.baseline_ms) == 60


def test_the_budget_is_each_arms_own(clock):  # noqa: F811
    """Rounds of 2 ms: 10 pairs are 40 ms, however many other arms stand between."""
    conf = replace(FEW, min_pairs=4, max_pairs=60, budget_s=0.04, target_ci_width=1e-9)
    arms = [clock.arm(name, 2.0) for name in "ABCDE"]
    for own in measured(*arms, conf=conf):
        assert own.stop_reason == "budget"
        assert len(own.order) in (10, 11)
        assert own.seconds == pytest.approx(0.04, rel=0.1)


def test_another_unquantized_arm_can_be_the_baseline_of_all(clock):  # noqa: F811
    arms = [clock.arm("A", 3.0, noise=0), clock.arm("B", 2.0, noise=0), clock.arm("C", 4.0, noise=0)]
    rounds = measured(*arms, others={"float32": clock.arm("D", 1.0, noise=0)})
    for own, ms in zip(rounds, [2.0, 4.0], strict=True):
        assert own.fastest_other() == "float32"
        faster = own.against_fastest("bfloat16")
        assert estimate_speedup(faster, CONF).ratio == pytest.approx(1.0 / ms)
        again = faster.against("bfloat16", "float32")
        assert (again.baseline_ms, again.order, again.others) == (own.baseline_ms, own.order, own.others)
        assert faster.order.count("AB") == 6


def test_a_drift_through_the_rounds_is_no_speedup(clock):  # noqa: F811
    """Every call takes 0.5 % more than the one before it."""
    calls = 0

    def drifting(_: int) -> float:
        nonlocal calls
        calls += 1
        return 0.01 * calls

    arms = [clock.arm(name, 2.0, noise=0.001, cold=drifting) for name in "ABCDE"]
    for own in measured(*arms, conf=replace(FEW, max_pairs=20)):
        found = estimate_speedup(own, CONF)
        assert found.ci_low <= 1 <= found.ci_high
        assert found.relative_width < 0.05


def test_a_broken_clock_ends_it(clock, monkeypatch):  # noqa: F811
    monkeypatch.setattr("src.timers.timer.RoundTimer._host", lambda *_: 0.0)
    with pytest.raises(RunEndedError, match="must be finite and positive"):
        measured(clock.arm("A", 2.0), clock.arm("B", 2.0), clock.arm("C", 2.0))


def test_page_faults_are_told_per_call_of_all_arms(clock, monkeypatch):  # noqa: F811
    """Each call touches five pages; the loop ends for one arm early, and the faults of all are in each one's."""
    monkeypatch.setattr("src.measurement.paired.page_faults", lambda: 5 * len(clock.calls))
    conf = replace(CONF, max_warmup_s=0.0, clear_width=0.2)
    arms = [clock.arm("A", 2.0), clock.arm("B", 40.0), clock.arm("C", 2.0, noise=0.05)]
    for own in measured(*arms, conf=conf, others={"float32": clock.arm("D", 0.5)}):
        assert own.page_faults / own.calls == 5
