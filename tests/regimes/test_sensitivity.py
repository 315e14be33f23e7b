"""Which kinds of layers are left alone, from given noise and gains."""

import math
from dataclasses import replace

import pytest
from torch import nn

from src.regimes.sensitivity import Kind, curve, in_db, kind_name, settle
from src.treatments.layers import LayerRow


def kind(name, db, gain_ms):
    return Kind(name, 1, 10 ** (-db / 10), gain_ms, "rules")


def names(kinds):
    return [each.name for each in kinds]


def test_what_costs_most_per_millisecond_is_left_alone_first_until_the_target_is_predicted():
    kinds = [kind("cheap", 40, 5.0), kind("dear", 18, 0.5), kind("noisy but worth it", 21, 9.0)]
    found = settle(kinds, 20)
    assert names(found.order) == ["dear", "noisy but worth it", "cheap"]
    assert (names(found.left), names(found.quantized)) == (["dear"], ["noisy but worth it", "cheap"])
    assert in_db(found.predicted_noise) == pytest.approx(20.95, abs=0.01)
    assert settle(kinds, 10).left == []
    assert names(settle(kinds, 30).left) == ["dear", "noisy but worth it"]


def test_what_gains_nothing_goes_first_the_noisiest_before_others():
    kinds = [kind("a", 25, -1.0), kind("b", 22, 0.0), kind("c", 21, 1.0)]
    assert names(settle(kinds, 60).order) == ["b", "a", "c"]


def test_one_that_comes_late_does_not_make_others_go_in_vain():
    found = settle([kind("small", 30, 0.01), kind("free", 35, 0.0), kind("huge", 12, 100.0)], 20)
    assert (names(found.quantized), names(found.left)) == (["small"], ["free", "huge"])


def test_where_no_kind_will_do_nothing_is_quantized():
    assert settle([kind("a", 12, 1.0), Kind("nan", 1, math.inf, 9.0)], 20).quantized == []
    assert settle([], 20).quantized == []


def test_rounding_counts_once():
    kinds = [replace(kind("a", 30, 1.0), rounding=1e-3), replace(kind("b", 30, 2.0), rounding=5e-4)]
    assert in_db(settle(kinds, 20).predicted_noise) == pytest.approx(-10 * math.log10(3e-3), abs=0.01)
    assert names(settle(kinds, 26).left) == ["a"]
    assert settle(kinds, 29).quantized == []


def test_the_curve_begins_with_every_layer():
    points = curve(settle([kind("a", 20, 1.0), kind("b", 30, 2.0)], 0).order)
    assert [point["left"] for point in points] == ["", "a"]
    assert [point["saved_ms"] for point in points] == [3.0, 2.0]
    assert points[1]["sqnr_db"] == 30


def test_a_kind_is_read_back_as_it_was_written():
    for each in (kind("a", 20, 1.0), Kind("nan", 2, math.inf, 0.0), Kind("exact", 1, 0.0, -1.0, "probe")):
        assert Kind.from_dict(each.as_dict()) == each


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ff = nn.ModuleList([nn.GELU(), nn.Linear(4, 4), nn.Linear(4, 4)])


def test_numbers_of_blocks_are_left_out_and_those_that_tell_layers_apart_are_not():
    model = nn.Module()
    model.blocks = nn.ModuleList([Block(), Block()])
    model.proj = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def of(fqn, **more):
        return kind_name(model, LayerRow(fqn, 1, 4, 4, 1, **more))

    assert (of("blocks.0.ff.2"), of("blocks.1.ff.1")) == ("blocks.*.ff.2", "blocks.*.ff.1")
    assert of("proj.1") == "proj.1"
    assert kind_name(Block(), LayerRow("ff.2", 1, 4, 4, 1, name="blocks.7.ff.2")) == "blocks.*.ff.2"
    assert of("proj.1", component="vae") == "vae: proj.1"
