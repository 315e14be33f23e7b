"""How far off fitted costs may be: little where times show them, as far as is expected where they do not."""

import numpy as np
import pytest

from src.forecasts.costs import Timed, baseline_prior, fit_costs
from src.forecasts.doubts import Doubts, doubts, expected
from tests.forecasts.synthetic import BASE, MS, SIDES

ALL = np.array([(m, k, n) for k, n in SIDES for m in MS], dtype=float)
FAR, NEAR = np.array([[16384, 3072, 3072]], dtype=float), np.array([[32, 3072, 3072]], dtype=float)


def fitted(shapes: np.ndarray) -> Doubts:
    times = BASE.time_us(shapes)
    timed = Timed(shapes, times, np.ones(len(shapes)), baseline_prior(shapes, times))
    return doubts(fit_costs(timed), timed)


def test_what_many_rows_take_is_open_until_they_were_timed():
    few, every = fitted(ALL[ALL[:, 0] <= 32]), fitted(ALL)
    assert every.of_multiplying < 0.1 < 0.3 < few.of_multiplying
    assert few.of_growth(FAR, NEAR)[0] > 10 * every.of_growth(FAR, NEAR)[0]


def test_nothing_is_open_of_a_shape_that_was_measured():
    assert fitted(ALL).of_growth(FAR, FAR) == pytest.approx(0.0)


def test_without_times_all_is_as_open_as_expected():
    prior = baseline_prior(ALL, BASE.time_us(ALL))
    assert expected(prior).of_multiplying == prior.spread[2]
