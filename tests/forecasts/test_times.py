"""Times of unquantized layers: alone as measured, in a whole model no faster than the device holds."""

import numpy as np
import pytest

from src.forecasts.family import family
from src.forecasts.times import BaselineTimes, within_whole
from tests.forecasts.synthetic import BASE, DEVICE, made_cells


@pytest.fixture(scope="module")
def times() -> BaselineTimes:
    cells = made_cells()
    slow = cells["M"] == 16384  # where a power limit acts, as no constant of the costs tells
    cells.loc[slow, "baseline_ms"] *= 1.2
    cells.loc[slow, "speedup"] *= 1.2
    return BaselineTimes(family(cells), DEVICE)


def test_what_was_measured_is_told_and_what_lies_between(times):
    between = np.array([[512, 3072, 3072], [2048, 3072, 12288]], dtype=float)
    told, spread = times(between)
    assert told == pytest.approx(BASE.time_us(between) / 1e3, rel=0.12)
    assert ((spread > 0) & (spread < 0.3)).all()
    measured = np.array([[16384, 5120, 13824]], dtype=float)
    assert times(measured)[0] == pytest.approx(1.2 * BASE.time_us(measured) / 1e3, rel=0.05)


def test_a_long_layer_tells_what_the_device_holds(times):
    longest = np.array([[16384, 5120, 13824]], dtype=float)
    held = 2 * longest.prod() / (1.2 * BASE.time_us(longest)[0]) / 1e6
    assert times.sustained_tflop_s == pytest.approx(held, rel=0.05)
    assert times.fastest_tflop_s > times.sustained_tflop_s


def test_inside_a_model_no_layer_is_faster_than_that():
    shapes = np.array([[1, 3072, 3072], [4096, 3072, 3072]], dtype=float)
    alone = np.array([0.01, 0.1])
    held = 2 * shapes[1].prod() / 600e9
    assert within_whole(alone, shapes, 600.0) == pytest.approx([0.01, held])
    assert within_whole(alone, shapes, float("nan")) == pytest.approx(alone)
