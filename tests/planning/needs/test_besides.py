"""What a call does beside its Linear layers: products, attention, bytes with and without a compiler that fuses."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from src.planning.needs.besides import Besides
from src.planning.needs.footprint import Footprints
from tests.conftest import SMALL_FLUX


def counted(function, *shapes):
    with FakeTensorMode(), torch.no_grad():
        tensors = [torch.empty(shape, dtype=torch.bfloat16) for shape in shapes]
        found = Besides()
        with found:
            function(*tensors)
    return found


def test_products_and_attention_are_counted_in_flop():
    found = counted(lambda a, b: a @ b, (8, 16), (16, 4))
    assert found.flop == 2 * 8 * 16 * 4
    assert (found.eager_bytes, found.fused_bytes) == (0, 0)
    heads = (1, 2, 32, 8)
    attention = torch.nn.functional.scaled_dot_product_attention
    assert counted(attention, heads, heads, heads).flop == 2 * (2 * 2 * 32 * 32 * 8)


def test_what_stands_between_two_products_is_one_kernel():
    def two_products(a, b):
        x = a @ b  # [8, 8]: 128 bytes
        return torch.relu(x + 1) @ b

    found = counted(two_products, (8, 8), (8, 8))
    assert found.eager_bytes == 4 * 128  # each of two operations reads and writes
    assert found.fused_bytes == 2 * 128  # the sum is never stored


def test_a_sum_that_is_needed_later_is_stored_and_read_again():
    def residual(a, b):
        x = (a @ b) + 1
        y = x @ b
        return x + y

    found = counted(residual, (8, 8), (8, 8))
    assert (
        found.fused_bytes == 128 + 128 + 128 + 128
    )  # a @ b, x written, x and y read; the end is the caller's


def test_views_cost_nothing():
    assert counted(lambda a: a.view(64).unsqueeze(0), (8, 8)).eager_bytes == 0


def test_a_model_holds_its_linear_layers_and_more(compose):
    cfg = compose(*SMALL_FLUX)
    prints = Footprints()
    found = prints.besides(cfg)
    linear = sum(2 * row.M * row.K * row.N * row.calls for row in prints.of(cfg).rows)
    assert found.flop > linear
    assert 0 < found.fused_bytes < found.eager_bytes
