import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config.errors import ConfigError
from src.workloads.dims import evaluate, resolve

NAMES = {"batch": 4, "side": 16, "text_tokens": 77}

operands = st.one_of(st.integers(0, 10**6).map(str), st.sampled_from(sorted(NAMES)))
expressions = st.recursive(
    operands,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=12,
)


@given(expressions)
def test_agrees_with_python(expression: str):
    try:
        expected = eval(expression, {"__builtins__": {}}, dict(NAMES))
    except ZeroDivisionError:
        with pytest.raises(ConfigError, match="zero"):
            evaluate(expression, NAMES, "key")
    else:
        assert evaluate(expression, NAMES, "key") == expected


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_a_config_error(text: str):
    try:
        value, message = evaluate(text, NAMES, "key"), ""
    except ConfigError as error:
        value, message = None, str(error)
    assert isinstance(value, int) or message.startswith("key=")


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getpid()",
        "batch.__class__",
        "[batch][0]",
        "(lambda: 1)()",
        "batch if batch else side",
        "'a' * 3",
        "2 ** 64",
        "1.5",
        "batch +",
        "",
        None,
        2.0,
    ],
)
def test_refuses_everything_but_integer_arithmetic(expression: object):
    with pytest.raises(ConfigError, match="not integers, names and"):
        evaluate(expression, NAMES, "model.dims.side")


def test_unknown_name_lists_the_accepted_ones():
    with pytest.raises(ConfigError) as caught:
        evaluate("batch * sid", NAMES, "model.inputs.x.shape")
    text = str(caught.value)
    assert "model.inputs.x.shape=batch * sid" in text
    assert "'sid'" in text
    assert "batch, side, text_tokens" in text


def test_dimensions_use_axes_and_earlier_dimensions():
    dims = resolve({"side": "resolution / 16", "tokens": "side * side"}, {"resolution": 256}, "model.dims")
    assert dims == {"resolution": 256, "side": 16, "tokens": 256}


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (
            {"side": "resolution // 512"},
            "model.dims.side=resolution // 512: gives 0 with resolution=256; a",
        ),
        ({"side": -3}, "model.dims.side=-3: gives -3 with resolution=256; a dimension is at least 1"),
        ({"tokens": "side * 2", "side": 4}, "no dimension 'side'"),
        ({"side": "resolution // 0"}, "model.dims.side=resolution // 0"),
        ({"side": "resolution / 0"}, "model.dims.side=resolution / 0"),
        (
            {"side": "resolution / 24"},
            "model.dims.side=resolution / 24: 256 is no multiple of 24; next to it: 240 and 264",
        ),
        ({"side": "(resolution - 250) / 8"}, "6 is no multiple of 8; next to it: 8"),
    ],
)
def test_dimensions_that_cannot_be(dims: dict[str, object], message: str):
    with pytest.raises(ConfigError) as caught:
        resolve(dims, {"resolution": 256}, "model.dims")
    assert message in str(caught.value)
