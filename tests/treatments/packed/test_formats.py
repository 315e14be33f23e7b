"""What the packed formats do to numbers: as torchao's own casts, as an exact reference, in the bits they claim."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchao.prototype.custom_fp_utils import _f32_to_floatx_unpacked, _floatx_unpacked_to_f32
from torchao.quantization import MappingType, quantize_
from torchao.quantization.quantize_.workflows import IntxChooseQParamsAlgorithm, IntxUnpackedToInt8Tensor

from src.treatments.packed.bits import unpack
from src.treatments.packed.fpx import FpxTensor, FpxWeightOnlyConfig, decode, largest_value
from src.treatments.packed.uintx import PackedUintxWeightOnlyConfig, UintxTensor
from src.workloads.weights.parameters import size_bytes

FLOATS = [(e, m) for e in range(1, 8) for m in range(7) if 3 <= 1 + e + m <= 8]
BITS = range(1, 8)
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def gaussian(*shape, dtype=torch.float32):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.02).to(dtype)


def sqnr_db(exact, got):
    exact = exact.double()
    return float(20 * torch.log10(exact.norm() / (exact - got.double()).norm()))


def every_code(exponent_bits, mantissa_bits):
    return torch.arange(2 ** (1 + exponent_bits + mantissa_bits)).to(torch.uint8)


def numbers_of(exponent_bits, mantissa_bits):
    """Every number of a format in float64, in the order of its codes: the definition, by arithmetic."""
    bias = 2 ** (exponent_bits - 1) - 1
    positive = [
        (0 if e == 0 else 1) * 2.0 ** (e - bias) + m * 2.0 ** (max(e, 1) - bias - mantissa_bits)
        for e in range(2**exponent_bits)
        for m in range(2**mantissa_bits)
    ]
    return torch.tensor(positive + [-number for number in positive], dtype=torch.float64)


@pytest.mark.parametrize("bits", FLOATS)
def test_every_code_is_read_as_torchao_reads_it(bits):
    codes = every_code(*bits)
    numbers = decode(codes, *bits)
    assert torch.equal(numbers.view(torch.int32), _floatx_unpacked_to_f32(codes, *bits).view(torch.int32))
    assert torch.equal(numbers.double(), numbers_of(*bits))
    assert numbers.max() == largest_value(*bits)


@pytest.mark.parametrize("bits", FLOATS)
def test_every_number_has_its_code(bits):
    codes = every_code(*bits)
    assert torch.equal(_f32_to_floatx_unpacked(decode(codes, *bits), *bits), codes)


@pytest.mark.parametrize("bits", FLOATS)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), columns=st.integers(1, 40), scale=st.floats(1e-4, 1e2))
def test_stored_codes_are_torchaos(bits, seed, columns, scale):
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(seed)) * scale
    packed = FpxTensor.from_hp(rows, *bits)
    codes = unpack(packed.qdata, 1 + sum(bits), 3)
    assert torch.equal(codes, _f32_to_floatx_unpacked(rows / packed.scale[:, None], *bits))
    exact = _floatx_unpacked_to_f32(codes, *bits) * packed.scale[:, None]
    assert torch.equal(packed.dequantize(), exact)


@pytest.mark.parametrize("bits", FLOATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_lose_what_their_format_loses(bits, dtype):
    weight = gaussian(16, 512, dtype=dtype)
    exact = weight.double()
    scale = exact.abs().amax(1, keepdim=True) / largest_value(*bits)
    grid = numbers_of(*bits).sort().values
    above = torch.searchsorted(grid, exact / scale).clamp(1, len(grid) - 1)
    nearest = torch.where(
        (grid[above] - exact / scale) < (exact / scale - grid[above - 1]), grid[above], grid[above - 1]
    )
    expected = sqnr_db(exact, nearest * scale)
    assert sqnr_db(exact, FpxTensor.from_hp(weight, *bits).dequantize()) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group_size", [32, 64, 12])
@pytest.mark.parametrize("bits", BITS)
def test_integers_are_torchaos_bit_for_bit(bits, group_size, dtype):
    weight = gaussian(24, 3 * group_size, dtype=dtype) + 0.005
    torchaos = IntxUnpackedToInt8Tensor.from_hp(
        weight, (1, group_size), getattr(torch, f"int{bits}"), mapping_type=MappingType.ASYMMETRIC
    )
    packed = UintxTensor.from_hp(weight, bits, group_size)
    assert torch.equal(packed.dequantize(), torchaos.dequantize())


@pytest.mark.parametrize("bits", BITS)
def test_integers_by_hqq_are_torchaos_bit_for_bit_in_few_bits(bits):
    weight = gaussian(24, 192, dtype=torch.bfloat16) + 0.005
    torchaos = IntxUnpackedToInt8Tensor.from_hp(
        weight, (1, 64), getattr(torch, f"int{bits}"), mapping_type=MappingType.SYMMETRIC,
        intx_choose_qparams_algorithm=IntxChooseQParamsAlgorithm.HQQ_SCALE_ONLY,
    )  # fmt: skip
    packed = UintxTensor.from_hp(weight, bits, 64, hqq=True)
    assert torch.equal(packed.dequantize(), torchaos.dequantize())
    assert packed.qdata.shape == UintxTensor.from_hp(weight, bits, 64).qdata.shape


@pytest.mark.parametrize("bits", BITS)
def test_integers_lose_what_their_format_loses(bits):
    weight = gaussian(16, 512)
    groups = weight.double().unflatten(1, (-1, 64))
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    step = (high - low) / (2**bits - 1)
    zero = (-low / step).round()
    codes = ((groups / step).round() + zero).clamp(0, 2**bits - 1)
    expected = sqnr_db(weight, ((codes - zero) * step).flatten(1))
    got = sqnr_db(weight, UintxTensor.from_hp(weight, bits, 64).dequantize())
    assert got == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("rows", "group_size"), [(16, 64), (24, 32), (21, 12)])
def test_bits_per_weight_of_integers(bits, dtype, rows, group_size):
    layer = quantized(PackedUintxWeightOnlyConfig(bits, group_size), 3 * group_size, rows, dtype=dtype)
    padded = 8 * math.ceil(rows / 8)
    expected = bits * padded / rows + (8 * dtype.itemsize + 8) / group_size
    assert 8 * size_bytes(layer) / layer.weight.numel() == pytest.approx(expected)


@pytest.mark.parametrize(("rows", "columns"), [(16, 512), (21, 45)])
@pytest.mark.parametrize("bits", FLOATS)
def test_bits_per_weight_of_floats(bits, rows, columns):
    layer = quantized(FpxWeightOnlyConfig(*bits), columns, rows, dtype=torch.bfloat16)
    padded = 8 * math.ceil(rows / 8)
    expected = (1 + sum(bits)) * padded / rows + 32 / columns
    assert 8 * size_bytes(layer) / layer.weight.numel() == pytest.approx(expected)


def quantized(config, columns, rows, dtype):
    layer = nn.Linear(columns, rows, bias=False, dtype=dtype)
    quantize_(layer, config, filter_fn=lambda *_: True)
    return layer


@pytest.mark.parametrize("config", [PackedUintxWeightOnlyConfig(4), FpxWeightOnlyConfig(3, 2)], ids=repr)
def test_zeros_stay_zeros_and_outliers_are_finite(config):
    layer = nn.Linear(64, 3, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, 5] = 1e4
    quantize_(layer, config)
    numbers = layer.weight.dequantize()
    assert numbers[0].abs().max() == 0
    assert numbers[1, 5] == pytest.approx(1e4, rel=1e-3)
    assert torch.isfinite(numbers).all()


@pytest.mark.parametrize(
    ("config", "arguments", "accepted"),
    [
        (PackedUintxWeightOnlyConfig, {"bits": 0}, "1 to 7"),
        (PackedUintxWeightOnlyConfig, {"bits": 8}, "1 to 7"),
        (PackedUintxWeightOnlyConfig, {"bits": 4, "group_size": 0}, "at least 1"),
        (FpxWeightOnlyConfig, {"exponent_bits": 0, "mantissa_bits": 3}, "3 to 8 bits"),
        (FpxWeightOnlyConfig, {"exponent_bits": 3, "mantissa_bits": -1}, "3 to 8 bits"),
        (FpxWeightOnlyConfig, {"exponent_bits": 1, "mantissa_bits": 0}, "3 to 8 bits"),
        (FpxWeightOnlyConfig, {"exponent_bits": 4, "mantissa_bits": 4}, "3 to 8 bits"),
    ],
)
def test_other_formats_are_refused_with_what_is_accepted(config, arguments, accepted):
    with pytest.raises(ValueError, match=accepted):
        config(**arguments)


@pytest.mark.parametrize(
    ("config", "layer", "reason"),
    [
        (PackedUintxWeightOnlyConfig(4), nn.Linear(96, 8), "K=96 is not a multiple of group_size=64"),
        (PackedUintxWeightOnlyConfig(4), nn.Linear(64, 8, dtype=torch.float64), "float64"),
        (FpxWeightOnlyConfig(3, 2), nn.Linear(64, 8, dtype=torch.float64), "float64"),
        (FpxWeightOnlyConfig(3, 2), nn.Conv1d(8, 8, 3), "accepted: "),
    ],
    ids=["group", "float64", "float64 to floats", "no matrix"],
)
def test_a_weight_that_does_not_fit_is_refused(config, layer, reason):
    with pytest.raises(ValueError, match=reason):
        quantize_(layer, config, filter_fn=lambda *_: True)
