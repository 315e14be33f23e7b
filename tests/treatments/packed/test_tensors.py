"""Packed weights in torch's machinery: Linear, compile, copies, files."""

import copy
import io

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torchao.quantization import FqnToConfig, quantize_

from src.treatments.packed.fpx import FpxWeightOnlyConfig
from src.treatments.packed.int8 import Int8ScaledWeightOnlyConfig
from src.treatments.packed.tensor import PackedTensor
from src.treatments.packed.uintx import PackedUintxWeightOnlyConfig
from src.workloads.workload import Whole

FAMILIES = [PackedUintxWeightOnlyConfig(3, 12), FpxWeightOnlyConfig(3, 2)]
ALL = [
    *(PackedUintxWeightOnlyConfig(bits, 12) for bits in range(1, 8)),
    *(FpxWeightOnlyConfig(e, m) for e in range(1, 8) for m in range(7) if 3 <= 1 + e + m <= 8),
]

FEW = [PackedUintxWeightOnlyConfig(bits, 12) for bits in (1, 7)]
FEW += [FpxWeightOnlyConfig(e, m) for e, m in ((1, 1), (3, 2), (7, 0))]

both = pytest.mark.parametrize("config", FAMILIES, ids=["uintx", "fpx"])
every = pytest.mark.parametrize("config", ALL, ids=repr)


class Block(nn.Module):
    """Two Linears, one with a bias; the N of the other is no multiple of 8, so that it is padded."""

    def __init__(self, columns=108, dtype=torch.bfloat16):
        super().__init__()
        self.first = nn.Linear(columns, 84, bias=False, dtype=dtype)
        self.second = nn.Linear(84, 40, dtype=dtype)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def quantized(config, dtype=torch.bfloat16, seed=0):
    torch.manual_seed(seed)
    block = Block(dtype=dtype).requires_grad_(False)
    quantize_(block, FqnToConfig({"first": config, "second": config}), filter_fn=None)
    assert isinstance(block.first.weight, PackedTensor)
    return block


def dequantized(block):
    """The same block with plain weights."""
    plain = Block(dtype=block.first.weight.dtype)
    plain.load_state_dict(
        {
            name: value.dequantize() if isinstance(value, PackedTensor) else value
            for name, value in block.state_dict().items()
        }
    )
    return plain


def inputs(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, 108, generator=torch.Generator().manual_seed(1)).to(dtype)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(5,), (2, 3), ()], ids=["2-D", "3-D", "a vector"])
@torch.no_grad()
def test_a_linear_computes_with_the_dequantized_weight(config, dtype, shape):
    block, x = quantized(config, dtype), inputs(*shape, dtype=dtype)
    assert torch.equal(block(x), dequantized(block)(x))


@both
def test_a_gradient_reaches_the_input(config):
    block = quantized(config)
    x, y = inputs(4).requires_grad_(), inputs(4).requires_grad_()
    block(x).sum().backward()
    dequantized(block)(y).sum().backward()
    assert torch.equal(x.grad, y.grad)


@pytest.mark.parametrize("config", FEW, ids=repr)
@torch.no_grad()
def test_one_graph_for_blocks_of_equal_shape(config):
    blocks, x = [quantized(config, seed=seed) for seed in range(2)], inputs(4)
    expected = [block(x) for block in blocks]
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for block in blocks:
            block.compile(backend="aot_eager", fullgraph=True, dynamic=False)
        assert all(torch.equal(block(x), y) for block, y in zip(blocks, expected, strict=True))
    assert counters["stats"]["unique_graphs"] == 1
    assert sum(counters["graph_break"].values()) == 0


@torch.no_grad()
def test_inductor_computes_the_same():
    """One Linear: g++ works seconds on each."""
    one = Whole(quantized(FpxWeightOnlyConfig(3, 2), torch.float32).first)
    x = inputs(4, dtype=torch.float32)
    expected = one(x)
    one.compile(fullgraph=True, dynamic=False)
    torch.testing.assert_close(one(x), expected)


@both
def test_the_compilers_cache_tells_formats_apart(config):
    """And not values: blocks of equal shape share their kernels."""
    one, two = quantized(config, seed=0), quantized(config, seed=1)
    key = one.first.weight._stable_hash_for_caching()
    assert key == two.first.weight._stable_hash_for_caching()
    others = [one.second, quantized(config, torch.float32).first, *(quantized(c).first for c in ALL[4:6])]
    assert len({key, *(other.weight._stable_hash_for_caching() for other in others)}) == 5


@torch.no_grad()
def test_changed_code_is_compiled_anew(cold_cache, monkeypatch):
    """The compiler's cache knows `dequantize` by its name only: what it did before must not come back."""
    one, x = Whole(quantized(FAMILIES[0], torch.float32).first), inputs(4, dtype=torch.float32)
    weight, expected = one.inner.weight, one(x)
    one.compile(fullgraph=True, dynamic=False)
    torch.testing.assert_close(one(x), expected)
    torch._dynamo.reset()
    original = type(weight).dequantize
    monkeypatch.setattr(type(weight), "dequantize", lambda weight: 2 * original(weight))
    monkeypatch.setattr("src.treatments.packed.tensor._CODE", "changed")
    torch.testing.assert_close(one(x), nn.functional.linear(x, weight.dequantize()))
    assert not torch.allclose(one(x), expected)


@both
@torch.no_grad()
def test_a_copy_is_independent(config):
    block, x = quantized(config), inputs(4)
    expected = block(x)
    copied = copy.deepcopy(block)
    assert torch.equal(copied(x), expected)
    copied.first.weight.qdata.zero_()
    assert not torch.equal(copied(x), expected)
    clone = block.first.weight.clone()
    clone.qdata.zero_()
    assert torch.equal(block(x), expected)
    assert type(block.first.weight.detach()) is type(block.first.weight.data) is type(clone)


@both
@torch.no_grad()
def test_a_cast_changes_the_dtype_and_no_code(config):
    block = quantized(config)
    codes = block.first.weight.qdata.clone()
    cast = copy.deepcopy(block).to(torch.float32)
    assert cast.first.weight.dtype == cast(inputs(4, dtype=torch.float32)).dtype == torch.float32
    assert torch.equal(cast.first.weight.qdata, codes)
    torch.testing.assert_close(
        cast.first.weight.dequantize().to(torch.bfloat16), block.first.weight.dequantize()
    )


@both
def test_a_move_takes_every_part_along(config):
    weight = quantized(config).to("meta").first.weight
    names, _ = weight.__tensor_flatten__()
    assert {getattr(weight, name).device.type for name in names} == {"meta"} == {weight.device.type}
    assert isinstance(weight, PackedTensor)


@both
@torch.no_grad()
def test_saved_and_loaded(config):
    block, x = quantized(config), inputs(4)
    buffer = io.BytesIO()
    torch.save(block.state_dict(), buffer)
    buffer.seek(0)
    assert len(buffer.getvalue()) < 2 * 84 * (108 + 40)  # what bfloat16 takes
    loaded = torch.load(buffer, weights_only=True)
    fresh = Block()
    fresh.load_state_dict(loaded, assign=True)
    assert torch.equal(fresh(x), block(x))
    other = quantized(config, seed=1)
    other.load_state_dict(loaded)  # in place, into weights of the same format
    assert torch.equal(other(x), block(x))


@both
def test_flattened_and_put_together_again(config):
    weight = quantized(config).first.weight
    names, attributes = weight.__tensor_flatten__()
    parts = {name: getattr(weight, name) for name in names}
    again = type(weight).__tensor_unflatten__(parts, attributes, weight.shape, weight.stride())
    assert torch.equal(again.dequantize(), weight.dequantize())
    assert (again.shape, again.dtype, again.device) == (weight.shape, weight.dtype, weight.device)


def test_int8_sums_stay_within_float16_where_the_layers_own_do():
    """Sums of codes do not: 2,048 inputs of 4 times codes of up to 127."""
    layer = nn.Linear(4096, 8, bias=False, dtype=torch.float16).requires_grad_(False)
    layer.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    layer.weight[:, :2048].abs_()
    x = torch.zeros(2, 4096, dtype=torch.float16)
    x[:, :2048] = 4.0
    expected = layer(x)
    quantize_(layer, Int8ScaledWeightOnlyConfig())
    assert torch.allclose(layer(x), expected, rtol=0.02)
