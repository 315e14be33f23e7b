"""Forecasts held against cells that they did not know, and against what needs no model."""

import math

import numpy as np
import pandas as pd
import pytest

from src.regimes.rivals import RIVALS
from src.regimes.trials import FITTED, LEFT_OUT, trials
from tests.forecasts.synthetic import made_cells


@pytest.fixture(scope="module")
def tested() -> dict[tuple[str, str], object]:
    one = made_cells()
    other = made_cells(device="Made-up 6000").assign(speedup=lambda cells: cells["speedup"] * 1.03)
    some = pd.concat([one, other[other["M"] < 4096]], ignore_index=True)
    return {(each.left_out, each.way): each for each in trials(some, 0.02, most_folds=2)}


def test_every_way_is_tried_on_everything_left_out(tested):
    assert set(tested) == {(left, way) for left in LEFT_OUT for way in (FITTED, *RIVALS)}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_a_device_that_is_as_the_model_says_is_predicted(tested, left_out):
    found = tested[left_out, FITTED]
    assert found.wrong < 0.02
    assert found.right + found.unknown > 0.85
    assert found.error < (0.12 if left_out == "all smaller M" else 0.08)
    assert found.covered > 0.8


def test_all_m_beyond_each_are_left_out_a_measured_one_on_one_side_alone():
    cells = made_cells()
    for name, first in (("all larger M", [32, 256, 1024, 4096, 16384]), ("all smaller M", [1])):
        things, parts = LEFT_OUT[name](cells, None)
        assert things == len(parts) == 5
        assert sorted(cells["M"][parts[0]].unique()) == first
        assert len(LEFT_OUT[name](cells, 2)[1]) == 2


def test_rivals_are_held_to_the_same_cells(tested):
    for left_out in LEFT_OUT:
        assert len({tested[left_out, way].cells for way in (FITTED, *RIVALS)}) == 1
    assert tested["one M", "always neutral"].right == 0.0
    assert math.isnan(tested["one M", "torchao's side < 1,024"].error)


@pytest.mark.parametrize(
    ("speedups", "said"), [([1.5, 1.5, 0.5], "helps"), ([1.5, 0.5], "neutral"), ([1.0, 0.5, 0.5], "hurts")]
)
def test_as_many_that_help_as_hurt_are_no_majority(speedups, said):
    cells = pd.DataFrame({"device": "one", "quant": "int8wo", "speedup": speedups})
    assert set(RIVALS["the scheme's majority"](cells, cells, 0.02).verdict) == {said}


def test_the_roofline_knows_bytes_and_rates():
    frame = made_cells()
    said = RIVALS["roofline alone"](frame, frame, 0.02)
    one_row = (frame["M"] == 1) & (frame["quant"] == "float8wo") & (frame["K"] == 5120)
    assert said.speedup[one_row.to_numpy()] == pytest.approx(2.0, rel=0.02)
    many = (frame["M"] == 16384) & (frame["quant"] == "float8dq") & (frame["K"] == 5120)
    assert said.speedup[many.to_numpy()] == pytest.approx(2.0, rel=0.2)
    assert np.isfinite(said.speedup).all()
