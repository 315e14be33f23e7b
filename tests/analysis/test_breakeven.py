from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.analysis.breakeven import Crossing, Curve, Direction, crossings, curve
from src.measurement.power_blocks import Block, PowerBlocks

MS = np.array([1.0, 4, 16, 64, 256, 1024, 4096])


def straight(at: float, slope: float, sigma: float, ms=MS) -> Curve:
    return Curve(ms, slope * (np.log(ms) - np.log(at)), np.full(ms.size, sigma))


curves = st.lists(st.floats(-1, 1).filter(lambda y: abs(y) > 1e-3), min_size=2, max_size=9).map(
    lambda ys: Curve(2.0 ** np.arange(len(ys)), np.array(ys), np.full(len(ys), 0.01))
)


@given(at=st.floats(1.5, 4000), slope=st.floats(0.02, 2), rising=st.booleans())
def test_a_power_law_crosses_where_it_was_made_to(at, slope, rising):
    (found,) = crossings(straight(at, slope if rising else -slope, 0.0))
    assert found.m == pytest.approx(at)
    assert (found.straight_low, found.straight_high) == pytest.approx((at, at))
    assert found.low <= found.below <= at * (1 + 1e-9)
    assert at * (1 - 1e-9) <= found.above <= found.high
    assert found.direction is (Direction.UP if rising else Direction.DOWN)
    assert found.seen == 1.0


def numbers(found: Crossing) -> list[float]:
    names = ("low", "below", "straight_low", "m", "straight_high", "above", "high")
    return [getattr(found, name) for name in names]


@given(points=curves, factor=st.floats(0.01, 100))
def test_scaling_m_scales_the_break_even(points, factor):
    scaled = Curve(points.m * factor, points.log_speedup, points.sigma)
    for a, b in zip(crossings(points, samples=50), crossings(scaled, samples=50), strict=True):
        assert numbers(b) == pytest.approx([each * factor for each in numbers(a)])
        assert (a.direction, a.low_open, a.high_open) == (b.direction, b.low_open, b.high_open)


@given(points=curves)
def test_directions_alternate_and_the_inverse_curve_crosses_at_the_same_places(points):
    found = crossings(points, samples=50)
    assert all(a.direction != b.direction and a.m < b.m for a, b in pairwise(found))
    inverse = crossings(Curve(points.m, -points.log_speedup, points.sigma), samples=50)
    assert [c.m for c in inverse] == pytest.approx([c.m for c in found])
    assert all(a.direction != b.direction for a, b in zip(found, inverse, strict=True))


@given(points=curves)
def test_crossings_lie_between_neighbours_of_opposite_sign(points):
    for found in crossings(points, samples=50):
        left = np.searchsorted(points.m, found.m) - 1
        assert points.m[0] < found.m < points.m[-1]
        assert points.log_speedup[left] * points.log_speedup[left + 1] < 0
        assert (found.below, found.above) == (points.m[left], points.m[left + 1])
        assert points.m[0] <= found.low <= found.below < found.above <= found.high <= points.m[-1]
        assert {found.low, found.high} <= set(points.m)
        assert found.low <= found.straight_low * (1 + 1e-9)
        assert found.straight_high * (1 - 1e-9) <= found.high


@given(at=st.floats(20, 200), lift=st.floats(0.001, 0.1))
def test_a_faster_treatment_breaks_even_earlier(at, lift):
    base = straight(at, 0.3, 0.02)
    lifted = Curve(base.m, base.log_speedup + lift, base.sigma)
    (before,), (after,) = crossings(base), crossings(lifted)
    assert after.m < before.m


@settings(max_examples=20)
@given(at=st.floats(30, 300), seed=st.integers(0, 1000))
def test_wider_intervals_give_wider_break_evens(at, seed):
    (narrow,), (wide,) = (crossings(straight(at, 0.3, sigma), seed=seed) for sigma in (0.01, 0.05))
    assert wide.straight_low <= narrow.straight_low < at < narrow.straight_high <= wide.straight_high
    assert wide.low <= narrow.low < at < narrow.high <= wide.high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits, sigma = np.random.default_rng(7), 0, 0.03
    for trial in range(200):
        truth = straight(50, 0.1, sigma)
        seen = Curve(truth.m, truth.log_speedup + rng.normal(0, sigma, MS.size), truth.sigma)
        found = [c for c in crossings(seen, samples=400, seed=trial) if c.direction is Direction.UP]
        nearest = min(found, key=lambda c: abs(np.log(c.m / 50)))
        hits += nearest.straight_low <= 50 <= nearest.straight_high
    assert 0.90 <= hits / 200 <= 0.995


def in_blocks(log_speedup: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A speedup from four pairs of blocks at the power cap: ratio, the ends of its interval, its error."""
    blocks = [
        Block(arm, [np.exp((log_speedup if arm == "A" else 0) + rng.normal(0, 0.02))]) for arm in "ABBABAAB"
    ]
    found = PowerBlocks(blocks).estimate(0.95)
    return found.ratio, found.ci_low, found.ci_high, found.error


def nearest(points: Curve, at: float, **options) -> Crossing:
    rising = [each for each in crossings(points, samples=400, **options) if each.direction is Direction.UP]
    return min(rising, key=lambda each: abs(np.log(each.m / at)))


@pytest.mark.parametrize("slope", [0.05, 0.3])
def test_break_evens_from_four_blocks_cover_as_often_as_they_say_where_the_error_is_known(slope):
    rng, trials, at, hits = np.random.default_rng(5), 250, 50, dict.fromkeys((0.95, 0.8, "older"), 0)
    for trial in range(trials):
        told = [in_blocks(slope * np.log(m / at), rng) for m in MS]
        speedup, low, high, error = np.array(told).T
        recorded, older = curve(MS, speedup, low, high, 0.95, error), curve(MS, speedup, low, high)
        for level in (0.95, 0.8):
            found = nearest(recorded, at, seed=trial, confidence=level)
            hits[level] += found.straight_low <= at <= found.straight_high
        found = nearest(older, at, seed=trial)
        hits["older"] += found.straight_low <= at <= found.straight_high
    assert 0.92 <= hits[0.95] / trials <= 0.99  # by a normal with the error 0.89
    assert 0.74 <= hits[0.8] / trials <= 0.87  # by a normal with the interval's width 0.89
    assert 0.92 <= hits["older"] / trials <= 0.99


def bent(at: float, power: float, ms=MS):
    """A curve that rises through 1 at an M, steeply or flat there."""
    away = np.log(ms / at)
    return 0.1 * np.sign(away) * np.abs(away) ** power


@given(
    ms=st.lists(st.sampled_from(MS), min_size=2, max_size=7, unique=True).map(sorted),
    at=st.floats(1.1, 4000), power=st.floats(0.2, 5), rising=st.booleans(), noise=st.integers(0, 10**6),
)  # fmt: skip
def test_whatever_a_curve_does_between_measured_m_its_break_even_lies_in_the_interval(
    ms, at, power, rising, noise
):
    """If at each measured M the run is on the right side of 1."""
    m, sign = np.array(ms), 1 if rising else -1
    truth = sign * bent(at, power, m)
    seen = truth + np.random.default_rng(noise).normal(0, 0.02, len(m))
    assume(m[0] < at < m[-1] and (np.sign(seen) == np.sign(truth)).all())
    (found,) = crossings(Curve(m, seen, np.full(len(m), 0.02)), samples=200)
    assert found.low <= found.below <= at <= found.above <= found.high


def test_a_bent_curve_is_where_the_interval_says_and_not_where_a_straight_line_does():
    rng, sigma, hits = np.random.default_rng(3), 0.01, {"interval": 0, "straight": 0}
    for trial in range(200):
        at, power = np.exp(rng.uniform(1, 7)), rng.choice([0.3, 3])
        seen = Curve(MS, bent(at, power) + rng.normal(0, sigma, MS.size), np.full(MS.size, sigma))
        found = nearest(seen, at, seed=trial)
        hits["interval"] += found.low <= at <= found.high
        hits["straight"] += found.straight_low <= at <= found.straight_high
    assert hits["interval"] / 200 >= 0.95
    assert hits["straight"] < hits["interval"]


def test_rows_with_and_without_a_recorded_error_make_one_curve():
    low, high = np.array([0.8, 0.9, 1.1]), np.array([0.9, 1.0, 1.3])
    error = np.array([np.nan, np.log(1.0 / 0.9) / 2 / 3.182446, np.nan])
    mixed, older = (curve(MS[:3], np.sqrt(low * high), low, high, error=each) for each in (error, np.nan))
    assert mixed.freedom == pytest.approx([np.inf, 3, np.inf], rel=1e-4)
    assert mixed.sigma[[0, 2]] == pytest.approx(older.sigma[[0, 2]])
    assert mixed.sigma[1] == pytest.approx(error[1])
    assert len(crossings(mixed)) == len(crossings(older)) == 1


def test_an_interval_that_leaves_the_measured_range_is_open():
    (late,) = crossings(straight(3900, 0.2, 0.05))
    assert late.high_open
    assert late.high == pytest.approx(4096)
    assert not late.low_open
    assert late.seen < 1
    (early,) = crossings(straight(1.05, 0.2, 0.05))
    assert early.low_open
    assert early.low == pytest.approx(1)
    (falling,) = crossings(straight(3900, -0.2, 0.05))
    assert falling.high_open


def test_several_crossings_are_reported_each():
    y = np.array([-0.2, 0.2, 0.3, -0.1, -0.2, 0.1, 0.2])
    found = crossings(Curve(MS, y, np.full(7, 0.01)))
    assert [c.direction for c in found] == [Direction.UP, Direction.DOWN, Direction.UP]
    assert found[0].m == pytest.approx(2.0)


@pytest.mark.parametrize("y", [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3], [0.0, 0.0, 0.0]])
def test_no_crossing(y):
    assert crossings(Curve(MS[:3], np.array(y), np.zeros(3))) == []


def test_one_point_has_no_crossing():
    assert crossings(Curve(MS[:1], np.array([0.1]), np.array([0.1]))) == []


@given(sigma=st.floats(0.001, 0.2), confidence=st.floats(0.6, 0.99))
def test_sigma_comes_back_from_the_interval(sigma, confidence):
    from statistics import NormalDist

    half = NormalDist().inv_cdf(0.5 + confidence / 2) * sigma
    found = curve(np.array([64, 4]), np.array([1.2, 0.9]), np.array([1.2, 0.9]) * np.exp(-half),
                  np.array([1.2, 0.9]) * np.exp(half), confidence)  # fmt: skip
    assert found.sigma == pytest.approx(sigma)
    assert found.m.tolist() == [4, 64]


@pytest.mark.parametrize(
    ("m", "y", "sigma"),
    [([4, 1], [0, 0], [0, 0]), ([1, 1], [0, 0], [0, 0]), ([0, 1], [0, 0], [0, 0]), ([1], [np.nan], [0]),
     ([1], [0], [-1]), ([1, 2], [0], [0]), ([], [], [])],
)  # fmt: skip
def test_what_is_no_curve_is_refused(m, y, sigma):
    with pytest.raises(ValueError, match=r"M is|finite|curve needs"):
        Curve(np.array(m, float), np.array(y, float), np.array(sigma, float))


@given(points=curves, seed=st.integers(0, 10))
def test_the_same_seed_gives_the_same_intervals(points, seed):
    assume(len(points.m) > 2)
    assert crossings(points, samples=50, seed=seed) == crossings(points, samples=50, seed=seed)
