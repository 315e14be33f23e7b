"""Example inputs of any nesting, and arguments with named dimensions in them."""

import pytest
import torch

from src.config.errors import ConfigError
from src.config.schema.model import InputConf, ModelConf
from src.workloads.dims import resolved
from src.workloads.inputs import make_inputs, merged

CPU = torch.device("cpu")
DIMS = {"batch": 2, "side": 3}


def made(inputs, call=None, seed=0):
    conf = ModelConf(name="any", inputs=inputs, call=call or {})
    return make_inputs(conf, DIMS, CPU, torch.bfloat16, seed)


def test_sets_and_lists_of_tensors():
    one = InputConf(["batch", "side"])
    found = made(
        {
            "x": one,
            "more": {"a": one, "deep": {"b": InputConf([1], fill=7, dtype="int64")}},
            "both": [one, one],
        }
    )
    assert found["x"].shape == found["more"]["a"].shape == found["both"][1].shape == (2, 3)
    assert found["more"]["deep"]["b"].tolist() == [7]
    values = [found["x"], found["more"]["a"], *found["both"]]
    assert not any(torch.equal(a, b) for a in values for b in values if a is not b)


def test_as_many_tensors_as_the_batch():
    found = made({"x": InputConf(["side", 4], count="batch")})["x"]
    assert [tuple(each.shape) for each in found] == [(3, 4), (3, 4)]
    assert not torch.equal(*found)
    with pytest.raises(ConfigError, match=r"model\.inputs\.x\.count=batch - 2: gives 0"):
        made({"x": InputConf([1], count="batch - 2")})


def test_numbers_beside_the_tensors_of_a_set():
    found = made({"extra": {"a": InputConf([1])}}, {"extra": {"scale": 0.5, "size": "side * 8"}})
    assert found["extra"].keys() == {"a", "scale", "size"}
    assert (found["extra"]["scale"], found["extra"]["size"]) == (0.5, 24)
    assert merged({"a": 1, "b": {"c": 1}}, {"a": {"x": 2}, "b": None}) == {"a": {"x": 2}, "b": None}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("side", 3),
        ([[[1, "side", "side // 2"]]], [[[1, 3, 1]]]),
        ({"a": ["batch * side"]}, {"a": [6]}),
        ([True, None, 0.5, 7, ""], [True, None, 0.5, 7, ""]),
        ("'bilinear'", "bilinear"),
        ('"side"', "side"),
    ],
)
def test_arguments_are_resolved_to_any_depth(value, expected):
    found = resolved(value, DIMS, "model.call.x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "sid",
            r"model\.call\.x=sid: no dimension 'sid'; accepted: batch, side; a text is quoted twice: \"'sid'\"",
        ),
        ([[1, "height"]], r"model\.call\.x\[0\]\[1\]=height: no dimension 'height'"),
        ({"size": "side //"}, r"model\.call\.x\.size=side //: not integers, names and"),
        ("a photo", r"model\.call\.x=a photo: .*quoted twice"),
        ("torch.float16", r"Attribute is not allowed"),
        ("(" * 300 + ")" * 300, r"model\.call\.x=\(\(.*: not integers"),
        ("'", "quoted twice"),
    ],
)
def test_what_cannot_be_resolved_is_named(value, said):
    with pytest.raises(ConfigError, match=said):
        resolved(value, DIMS, "model.call.x")
