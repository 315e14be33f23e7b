"""The cost model: constants are found again, and times grow with what there is to do."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.forecasts.costs import Costs, Timed, baseline_prior, fit_costs, treated_prior
from tests.forecasts.synthetic import BASE, MS, SIDES, TREATED

SHAPES = np.array([(m, k, n) for k, n in SIDES for m in MS], dtype=float)
ONES = np.ones(len(SHAPES))
positive = st.floats(0.05, 20)


def test_a_baselines_constants_are_found_again():
    times = BASE.time_us(SHAPES)
    found = fit_costs(Timed(SHAPES, times, ONES, baseline_prior(SHAPES, times)))
    assert found.floor_us == pytest.approx(BASE.floor_us, rel=0.1)
    assert found.weight_us == pytest.approx(BASE.weight_us, rel=0.05)
    assert found.multiply_us == pytest.approx(BASE.multiply_us, rel=0.05)
    assert found.ridge == pytest.approx(BASE.ridge, rel=0.1)


@pytest.mark.parametrize("quant", TREATED)
def test_a_schemes_times_are_explained_to_a_few_percent(quant):
    times = TREATED[quant].time_us(SHAPES)
    found = fit_costs(Timed(SHAPES, times, ONES, treated_prior(BASE)))
    off = found.time_us(SHAPES) / times - 1
    assert np.abs(off).max() < 0.08
    assert found.weight_us == pytest.approx(TREATED[quant].weight_us, rel=0.1)


def test_a_cell_that_is_far_off_does_not_carry_the_fit_away():
    times = BASE.time_us(SHAPES)
    times[3] *= 8
    found = fit_costs(Timed(SHAPES, times, ONES, baseline_prior(SHAPES, times)))
    assert found.multiply_us == pytest.approx(BASE.multiply_us, rel=0.1)


def test_weights_made_anew_take_longer_per_weight_from_32_mib_on():
    below, above = BASE.time_us(np.array([[1, 4096, 4095], [1, 4096, 4096]], dtype=float))
    assert above == pytest.approx(below, rel=1e-3)
    costs = replace(BASE, fresh_us=400.0)
    below, above = costs.time_us(np.array([[1, 4096, 4095], [1, 4096, 4096]], dtype=float))
    assert above - below == pytest.approx(400 * 16.777216, rel=0.01)
    wide = replace(costs, weight_bytes=4)  # float32: half as many weights
    below, above = wide.time_us(np.array([[1, 4096, 2047], [1, 4096, 2048]], dtype=float))
    assert above - below == pytest.approx(400 * 8.388608, rel=0.01)
    prior = treated_prior(BASE, made_anew=True, weight_bytes=4)
    times = wide.time_us(SHAPES)
    assert fit_costs(Timed(SHAPES, times, ONES, prior)).weight_bytes == 4


def test_what_making_weights_anew_costs_is_found_and_without_it_expected():
    true = replace(BASE, weight_us=4 * BASE.weight_us, fresh_us=200.0)
    shapes = np.array([(m, side, side) for side in (1024, 3072, 4096, 6144) for m in MS], dtype=float)
    small = shapes[shapes[:, 1] < 4096]
    prior = treated_prior(BASE, made_anew=True)
    found, expected = (
        fit_costs(Timed(each, true.time_us(each), np.ones(len(each)), prior)) for each in (shapes, small)
    )
    assert found.fresh_us == pytest.approx(200, rel=0.1)
    assert expected.fresh_us == pytest.approx(prior.median.fresh_us)
    assert treated_prior(BASE).median.fresh_us < 1e-6


@settings(max_examples=50, deadline=None)
@given(
    constants=st.tuples(*[positive] * 7),
    shape=st.tuples(*[st.integers(1, 20000)] * 3),
    side=st.integers(0, 2),
)
def test_times_grow_with_every_side(constants, shape, side):
    costs = Costs(*constants)
    more = list(shape)
    more[side] *= 2
    one, two = costs.time_us(np.array([shape, more], dtype=float))
    assert 0 < one <= two * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(
    base=st.tuples(*[positive] * 6), saved=st.floats(0.1, 0.9), sides=st.tuples(*[st.integers(64, 10000)] * 2)
)
def test_fewer_bytes_per_weight_help_one_row_more_the_more_weights_there_are(base, saved, sides):
    baseline = Costs(*base)
    lighter = Costs(*(astuple(baseline)[0], astuple(baseline)[1] * saved, *astuple(baseline)[2:]))
    shapes = np.array([(1, *sides), (1, *(2 * side for side in sides))], dtype=float)
    # with x and y left out of the account, which grow with the sides as well
    still = [Costs(c.floor_us, c.weight_us, 1e-9, 1e-9, 1e-9, 1e-9) for c in (baseline, lighter)]
    small, large = still[0].time_us(shapes) / still[1].time_us(shapes)
    assert 1 <= small <= large * (1 + 1e-9)
