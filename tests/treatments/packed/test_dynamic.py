"""int4 weights and int8 activations: torchao's numbers bit for bit, in half of its bytes."""

import io

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerGroup, quantize_

from src.treatments.packed.dynamic import DynamicUintxTensor, PackedInt8DynamicIntxWeightConfig


class Around(nn.Module):
    """The compiler does not look into a module of torch's own that nothing is around."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def pair(dtype, bits=4, group_size=32, features=(96, 40)):
    """A Linear of ours and one of torchao's, of the same weights."""
    made = []
    for config in (
        PackedInt8DynamicIntxWeightConfig(bits, group_size),
        Int8DynamicActivationIntxWeightConfig(getattr(torch, f"int{bits}"), PerGroup(group_size)),
    ):
        torch.manual_seed(0)
        layer = nn.Linear(*features, dtype=dtype).requires_grad_(False)
        layer.weight[0], layer.weight[1, 3] = 0, 4.0  # a row of zeros, an outlier
        made.append(layer)
        quantize_(layer, config)
    return made


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("bits", [2, 4, 7])
@torch.no_grad()
def test_the_numbers_are_torchaos(dtype, bits):
    ours, theirs = pair(dtype, bits)
    assert isinstance(ours.weight, DynamicUintxTensor)
    assert torch.equal(ours.weight.dequantize(), theirs.weight.dequantize())
    x = 3 * torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(1)).to(dtype) + 1
    assert torch.equal(ours(x), theirs(x))


@torch.no_grad()
def test_it_is_stored_in_its_bits():
    ours, _ = pair(torch.bfloat16, features=(256, 64))
    weight = ours.weight
    stored = sum(each.nbytes for each in (weight.qdata, weight.scale, weight.zero_point))
    assert 8 * stored / weight.numel() == 4 + (16 + 8) / 32


@torch.no_grad()
def test_it_compiles_into_one_graph_and_survives_a_file():
    ours, _ = pair(torch.bfloat16)
    x = torch.randn(3, 96).to(torch.bfloat16)
    expected = ours(x)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    loaded = nn.Linear(96, 40, dtype=torch.bfloat16).requires_grad_(False)
    loaded.load_state_dict(torch.load(file, weights_only=True), assign=True)
    assert torch.equal(loaded(x), expected)
    counters.clear()
    compiled = Around(loaded)
    compiled.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    assert torch.equal(compiled(x), expected)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(("bits", "group_size"), [(0, 32), (8, 32), (4, 0)])
def test_what_is_not_accepted_is_said(bits, group_size):
    with pytest.raises(ValueError, match=r"bits=|group_size="):
        PackedInt8DynamicIntxWeightConfig(bits, group_size)
