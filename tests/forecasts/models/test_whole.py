"""Layers and the rest put together: the sum, Amdahl's bound, what is withheld, how doubts add up."""

import math
from dataclasses import replace

import pytest

from src.forecasts.models.rest import Rest
from src.forecasts.models.whole import Layers, put_together

BIG = Layers(4096, 3072, 3072, 10, "int8dq", 60.0, 30.0, 2.0, 1.8, 2.2)
PLAIN = Layers(1, 64, 64, 1, "", 10.0, 10.0, left="quant.layers.exclude: embed")
UNKNOWN = replace(PLAIN, quant="int8dq", baseline_ms=2.0, treated_ms=2.0, unknown="K=64 is too far")
REST = Rest(30.0, 0.05, "a test")


def test_the_whole_is_the_sum_and_amdahl_bounds_it():
    whole = put_together([BIG, PLAIN], REST)
    assert whole.speedup == pytest.approx(100 / 70)
    assert whole.share == pytest.approx(0.6)
    assert whole.bound == pytest.approx(2.5)
    assert whole.withheld == ""
    assert 0.03 < whole.spread() < 0.1


def test_all_in_one_layer_has_no_bound():
    assert put_together([BIG], replace(REST, ms=0.0)).bound == math.inf


def test_few_unknown_layers_count_as_unquantized_and_widen():
    known, unknown = put_together([BIG, PLAIN], REST), put_together([BIG, PLAIN, UNKNOWN], REST)
    assert unknown.speedup == pytest.approx(102 / 72)
    assert unknown.withheld == ""
    assert unknown.spread() > known.spread()


def test_many_unknown_layers_withhold_the_answer():
    whole = put_together([BIG, replace(UNKNOWN, baseline_ms=20.0, treated_ms=20.0)], REST)
    assert "18% of the time is in layers that nothing predicts" in whole.withheld
    assert "1x64x64: K=64 is too far" in whole.withheld
    assert whole.at_most == pytest.approx(110 / 60)


def test_a_measured_call_that_is_shorter_than_its_layers_shrinks_them():
    whole = put_together([BIG, PLAIN], Rest(0.0, 0.05, "a test", whole_ms=35.0))
    assert whole.baseline_ms == pytest.approx(35.0)
    assert whole.speedup == pytest.approx(70 / 40)


def test_a_profile_says_how_long_the_layers_take():
    whole = put_together([BIG, PLAIN], Rest(20.0, 0.05, "a test", whole_ms=160.0, linear_ms=140.0))
    assert whole.baseline_ms == pytest.approx(160.0)
    assert whole.treated_ms == pytest.approx(20 + 2 * 40)


def test_surer_layers_make_a_surer_whole():
    unsure = replace(BIG, low=1.0, high=4.0)
    assert put_together([unsure, PLAIN], REST).spread() > put_together([BIG, PLAIN], REST).spread()
    assert (
        put_together([BIG, PLAIN], replace(REST, spread=0.4)).spread()
        > put_together([BIG, PLAIN], REST).spread()
    )
