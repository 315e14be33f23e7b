import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.outcomes import RunEndedError
from src.quality.sqnr import compare, on_cpu, sqnr_db
from src.records.record import Outcome

NAN, INF = float("nan"), float("inf")


def test_known_values():
    metrics = compare(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert metrics == {
        "quality/sqnr_db": pytest.approx(20.0),  # 25 over 0.25
        "quality/cosine": pytest.approx(27 / (5 * math.hypot(3, 4.5))),
        "quality/max_abs_error": 0.5,
    }


@given(st.floats(1e-4, 0.5))
def test_sqnr_of_a_relative_error(relative):
    x = torch.linspace(1, 2, 100, dtype=torch.float64)
    assert compare(x, x * (1 + relative))["quality/sqnr_db"] == pytest.approx(
        -20 * math.log10(relative), rel=1e-6
    )


def test_equal_outputs_have_no_finite_sqnr():
    x = torch.randn(10, generator=torch.Generator().manual_seed(0))
    assert compare(x, x.clone()) == {"quality/cosine": pytest.approx(1.0), "quality/max_abs_error": 0.0}


def test_a_baseline_of_zeros_has_no_ratio():
    assert compare(torch.zeros(4), torch.ones(4)) == {"quality/max_abs_error": 1.0}
    assert compare(torch.zeros(4), torch.zeros(4)) == {}
    assert sqnr_db(torch.zeros(4), torch.ones(4)) == -INF
    assert sqnr_db(torch.zeros(4), torch.zeros(4)) == sqnr_db(torch.ones(4), torch.ones(4)) == INF


def test_a_treated_output_of_zeros_is_all_error():
    assert compare(torch.ones(4), torch.zeros(4)) == {"quality/sqnr_db": 0.0, "quality/max_abs_error": 1.0}


def test_large_low_precision_outputs_do_not_overflow():
    x = torch.full((1000,), 60000.0, dtype=torch.float16)
    assert compare(x, x * 0.5)["quality/sqnr_db"] == pytest.approx(20 * math.log10(2))


def test_all_tensors_of_a_nested_output_count():
    baseline = {"a": [torch.tensor([3.0]), 7], "b": (torch.tensor([[4.0]], dtype=torch.bfloat16), None)}
    treated = {"a": [torch.tensor([3.0]), 7], "b": (torch.tensor([[4.5]], dtype=torch.bfloat16), None)}
    assert compare(baseline, treated)["quality/sqnr_db"] == pytest.approx(20.0)


def test_a_tensor_without_values_says_nothing():
    x, nothing = torch.ones(3), torch.empty(0, 3)
    assert compare((x, nothing), (x + 0.1, nothing)) == compare(x, x + 0.1)
    assert compare(nothing, nothing) == {}


def test_integers_are_not_compared():
    metrics = compare((torch.ones(2), torch.tensor([1])), (torch.ones(2), torch.tensor([5])))
    assert metrics == {"quality/cosine": pytest.approx(1.0), "quality/max_abs_error": 0.0}


@pytest.mark.parametrize(
    ("baseline", "treated", "outcome", "reason"),
    [
        ([1.0], [NAN], Outcome.BAD_NUMERICS, "treated output holds NaN or infinity"),
        ([1.0], [INF], Outcome.BAD_NUMERICS, "treated output holds NaN or infinity"),
        ([1.0, 2.0], [1.0], Outcome.BAD_NUMERICS, r"output shapes \[\(1,\)\] instead of \[\(2,\)\]"),
        ([[1.0, 2.0]], [[1.0], [2.0]], Outcome.BAD_NUMERICS, r"\[\(2, 1\)\] instead of \[\(1, 2\)\]"),
        ([NAN], [1.0], Outcome.BAD_NUMERICS, "unquantized baseline itself"),
        ([NAN], [NAN], Outcome.BAD_NUMERICS, "unquantized baseline itself"),
        ([-INF], [1.0], Outcome.BAD_NUMERICS, "unquantized baseline itself"),
    ],
)
def test_outputs_that_cannot_be_compared(baseline, treated, outcome, reason):
    with pytest.raises(RunEndedError, match=reason) as caught:
        compare(torch.tensor(baseline), torch.tensor(treated))
    assert caught.value.outcome is outcome


def test_another_number_of_outputs_is_bad_numerics():
    with pytest.raises(RunEndedError, match="output shapes"):
        compare((torch.ones(2), torch.ones(2)), (torch.ones(2),))


def test_a_copy_is_not_overwritten_by_later_calls():
    buffer = torch.ones(2)
    (kept, other), text = on_cpu(([buffer, 3], "text"))
    buffer.zero_()
    assert kept.tolist() == [1.0, 1.0]
    assert (other, text) == (3, "text")
