"""Codes come back as they were stored, from as few bytes as they need."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.treatments.packed.bits import pack, packed_rows, unpack

BITS = range(1, 9)
SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 6))


def random_codes(shape, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=40)
@given(shape=SHAPES, seed=st.integers(0, 2**31))
def test_what_is_packed_comes_back(bits, shape, seed):
    codes = random_codes(shape, bits, seed)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (packed_rows(shape[0], bits), shape[1])
    assert torch.equal(unpack(packed, bits, shape[0]), codes)


@pytest.mark.parametrize("bits", BITS)
def test_every_code_at_every_place(bits):
    codes = torch.arange(2**bits).repeat(24).to(torch.uint8).reshape(24, -1)
    codes = torch.stack([row.roll(shift) for shift, row in enumerate(codes)])
    assert torch.equal(unpack(pack(codes, bits), bits, 24), codes)


@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=20)
@given(rows=st.integers(1, 300))
def test_a_column_takes_its_bits_and_less_than_eight_codes_of_padding(bits, rows):
    spare_bits = 8 * packed_rows(rows, bits) - bits * rows
    assert 0 <= spare_bits < 8 * bits
    assert spare_bits == 0 or rows % 8


@pytest.mark.parametrize("bits", BITS)
def test_no_bit_is_spent_twice(bits):
    """Ones everywhere fill every byte."""
    packed = pack(torch.full((8, 1), 2**bits - 1, dtype=torch.uint8), bits)
    assert packed.tolist() == [[255]] * bits


def test_the_layout_is_the_documented_one():
    """Saved weights are read again: the example in bits.py."""
    codes = (torch.arange(16) % 8).to(torch.uint8)
    low, high = codes & 3, codes >> 2
    first = [sum(int(low[i + 4 * j]) << (2 * j) for j in range(4)) for i in range(4)]
    second = [sum(int(high[i + 2 * j]) << j for j in range(8)) for i in range(2)]
    assert pack(codes.unsqueeze(1), 3).flatten().tolist() == first + second


@pytest.mark.parametrize("bits", BITS)
def test_compiled_as_eager(bits):
    torch._dynamo.reset()
    codes = random_codes((45, 3), bits, 0)
    packed = torch.compile(pack, fullgraph=True, dynamic=False, backend="aot_eager")(codes, bits)
    assert torch.equal(packed, pack(codes, bits))
    read = torch.compile(unpack, fullgraph=True, dynamic=False, backend="aot_eager")(packed, bits, 45)
    assert torch.equal(read, codes)
