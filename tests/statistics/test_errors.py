"""From an interval back to what it was made of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri, stdtrit

from src.statistics.errors import errors

ERRORS, LEVELS = st.floats(1e-4, 0.5), st.floats(0.7, 0.99)


@given(error=ERRORS, freedom=st.floats(1.0, 200), level=LEVELS, middle=st.floats(-1, 1))
def test_error_and_freedom_come_back_from_an_interval_by_students_t(error, freedom, level, middle):
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    found = errors(middle - half, middle + half, error, level)
    assert found.error == pytest.approx(error, rel=1e-6)
    assert found.freedom == pytest.approx(freedom, rel=1e-3)


@given(error=ERRORS, level=LEVELS, recorded=st.sampled_from([math.nan, 0.0, math.inf]))
def test_an_error_that_is_not_known_is_a_normals(error, level, recorded):
    half = float(ndtri((1 + level) / 2)) * error
    found = errors(-half, half, recorded, level)
    assert found.error == pytest.approx(error)
    assert found.freedom == math.inf


@given(error=ERRORS, widths=st.floats(0.1, 100), level=LEVELS)
def test_whatever_was_recorded_what_is_told_reaches_to_the_ends(error, widths, level):
    """Also of an interval that is narrower than a normal's, or wider than any that its error gives."""
    found = errors(-widths * error, widths * error, error, level)
    reaches = float(stdtrit(min(float(found.freedom), 1e6), (1 + level) / 2) * found.error)
    assert reaches >= 0.999 * widths * error
    assert found.freedom >= 1
    assert found.error >= error * (1 - 1e-9)


def test_many_at_once_each_by_its_own():
    half = np.array([0.02, 0.02, 0.0, math.nan])
    found = errors(-half, half, np.array([0.02 / 3.182446, math.nan, 0.01, 0.01]))
    assert found.freedom[:2] == pytest.approx([3.0, math.inf], rel=1e-4)
    assert found.error[:3] == pytest.approx([0.02 / 3.182446, 0.02 / 1.959964, 0.0])
    assert math.isnan(found.error[3])
