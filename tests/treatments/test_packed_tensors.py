"""Packed weights in torch's machinery: Linear, compile, copies, files, and whole runs."""

import copy
import io
import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torchao.quantization import FqnToConfig, quantize_

from src.records.record import Outcome
from src.treatments.packed.fpx import FpxTensor, FpxWeightOnlyConfig
from src.treatments.packed.tensor import PackedTensor
from src.treatments.packed.uintx import PackedUintxWeightOnlyConfig, UintxTensor
from src.treatments.scheme import TorchaoScheme, make_scheme
from src.workloads.device import Device
from tests.conftest import ROOT, SMALL_FLUX, SMALL_LINEAR

FAMILIES = [PackedUintxWeightOnlyConfig(3, 32), FpxWeightOnlyConfig(3, 2)]
ALL = [
    *(PackedUintxWeightOnlyConfig(bits, 32) for bits in range(1, 8)),
    *(FpxWeightOnlyConfig(e, m) for e in range(1, 8) for m in range(7) if 3 <= 1 + e + m <= 8),
]
NAMES = [path.stem for path in (ROOT / "conf" / "quant").glob("fp[3-8]_e?m?.yaml")]
NAMES += [f"uint{bits}wo" for bits in range(1, 8)]

both = pytest.mark.parametrize("config", FAMILIES, ids=["uintx", "fpx"])
every = pytest.mark.parametrize("config", ALL, ids=repr)


class Block(nn.Module):
    """Two Linears, one of them with a bias; K of the first is no multiple of 8 codes but for its group."""

    def __init__(self, columns=96, dtype=torch.bfloat16):
        super().__init__()
        self.first = nn.Linear(columns, 64, bias=False, dtype=dtype)
        self.second = nn.Linear(64, 40, dtype=dtype)

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
    return torch.randn(*shape, 96, generator=torch.Generator().manual_seed(1)).to(dtype)


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


@every
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


@pytest.mark.parametrize("config", [PackedUintxWeightOnlyConfig(7, 32), FpxWeightOnlyConfig(3, 2)], ids=repr)
@torch.no_grad()
def test_inductor_computes_the_same(config):
    block, x = quantized(config, torch.float32), inputs(4, dtype=torch.float32)
    expected = block(x)
    block.compile(fullgraph=True, dynamic=False)
    torch.testing.assert_close(block(x), expected)


@both
def test_the_compilers_cache_tells_formats_apart(config):
    """And not values: blocks of equal shape share their kernels."""
    one, two = quantized(config, seed=0), quantized(config, seed=1)
    key = one.first.weight._stable_hash_for_caching()
    assert key == two.first.weight._stable_hash_for_caching()
    others = [one.second, quantized(config, torch.float32).first, *(quantized(c).first for c in ALL[4:6])]
    assert len({key, *(other.weight._stable_hash_for_caching() for other in others)}) == 5


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
    assert len(buffer.getvalue()) < 2 * 64 * (96 + 40)  # what bfloat16 takes
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


@pytest.mark.parametrize(
    ("quant", "kind", "bits"), [("uint3wo", UintxTensor, 3.375), ("fp6_e3m2", FpxTensor, 6.125)]
)
def test_a_run_of_each_family(compose, execute_run, quant, kind, bits):
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}", "compile=default", "compile.backend=aot_eager"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quantize/layers"] == 1
    assert record.metrics["compile/graph_breaks"] == record.metrics["compile/recompiles"] == 0
    ratio = record.metrics["memory/model_gib"] / record.metrics["memory/baseline_model_gib"]
    assert 16 * ratio == pytest.approx(bits)
    assert record.metrics["quality/sqnr_db"] > 10


def test_a_run_says_which_layers_do_not_fit(compose, execute_run):
    reason = "K=256 is not a multiple of 96"
    record = execute_run(compose(*SMALL_LINEAR, "quant=uint4wo", "quant.group_size=96"))
    assert (record.outcome, reason in record.reason) == (Outcome.UNSUPPORTED, True)
    forced = execute_run(
        compose(*SMALL_LINEAR, "quant=uint4wo", "quant.group_size=96", "quant.requires.k_multiple=1")
    )
    assert (forced.outcome, "K=256 is not a multiple of group_size=96" in forced.reason) == (
        Outcome.UNSUPPORTED,
        True,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_what_its_name_says(compose, name):
    conf = compose(f"quant={name}").quant
    scheme = make_scheme(conf)
    assert isinstance(scheme, TorchaoScheme)
    for device in (Device("cpu", "CPU", 1.0), Device("cuda", "GPU", 1.0, compute_capability=7.5)):
        scheme.check(device, "float16")
        config = scheme.torchao_config(device)
        if floats := re.fullmatch(r"fp(\d)_e(\d)m(\d)", name):
            total, exponent, mantissa = map(int, floats.groups())
            assert (config.exponent_bits, config.mantissa_bits) == (exponent, mantissa)
            assert total == 1 + exponent + mantissa
            assert conf.description.startswith(f"{total}-bit floats, {exponent} exponent bit")
        else:
            assert (f"uint{config.bits}wo", config.group_size) == (name, 64)
            assert f"stored in {config.bits}.375 bits" in conf.description


def test_every_format_has_its_entry():
    assert sorted(NAMES) == sorted(
        f"uint{c.bits}wo"
        if isinstance(c, PackedUintxWeightOnlyConfig)
        else f"fp{1 + c.exponent_bits + c.mantissa_bits}_e{c.exponent_bits}m{c.mantissa_bits}"
        for c in ALL
    )


def test_an_entry_can_be_a_candidate(compose):
    """What it shares with others finds its keys there too."""
    added = "+quant@quant.candidates.uint4wo=uint4wo"
    candidates = make_scheme(compose("quant=autoquant", added, "quant.candidates.uint4wo.group_size=32").quant).candidates
    config = candidates["uint4wo"].torchao_config(Device("cpu", "CPU", 1.0))
    assert (config.bits, config.group_size) == (4, 32)
    assert candidates["uint4wo"].conf.requires.k_multiple == 32


def test_what_entries_share_is_no_option():
    command = [sys.executable, "-m", "src.run", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert "uint3wo" in shown
    assert "quant_base" not in shown


@torch.no_grad()
def test_a_transformer_in_few_bits(compose, execute_run):
    record = execute_run(compose(*SMALL_FLUX, "target=block", "quant=fp5_e2m2"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quantize/layers"] == 14
    assert record.metrics["quality/sqnr_db"] > 10
