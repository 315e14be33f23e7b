"""Random weights: activations of every block are as large as those of the first, and every block counts."""

import pytest
import torch
from torch import nn

from src.compilation.scopes import repeated_blocks
from src.workloads.model import build_model
from src.workloads.weights.initial import Scales, depth
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX
from tests.workloads.rms import through_blocks


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 16])
def test_a_deep_model_is_as_loud_as_a_shallow_one(compose, cpu, layers):
    deeper = [f"model.factory.num_layers={layers}", f"model.factory.num_single_layers={layers}"]
    workload = build_workload(compose(*SMALL_FLUX, *deeper, "dtype=float32"), cpu)
    found = through_blocks(workload)
    assert len(found) == depth(workload.module) == 2 * layers
    assert all(0.5 < rms < 3 for rms in found)
    assert found[-1] > 1.05 * found[0] or layers == 1


@torch.no_grad()
def test_without_its_blocks_a_model_says_something_else(compose, cpu):
    """With one standard deviation for all they added nothing that the output could show."""

    def change(*given):
        workload = build_workload(compose(*SMALL_FLUX, "dtype=float32", *given), cpu)
        before = workload.call()[0]
        for block in repeated_blocks(workload.module):
            for parameter in block.parameters():
                parameter.zero_()
        return float((workload.call()[0] - before).norm() / before.norm())

    assert change() > 0.2
    assert change("model.weights.std=0.02") < 0.01


def test_what_a_weight_is_says_how_large_it_is(compose):
    conf = compose(*SMALL_FLUX).model
    model = build_model(conf, torch.device("cpu"), torch.float32, 0)
    block = model.transformer_blocks[0]
    inner = block.ff.net[2].weight
    assert float(inner.std()) == pytest.approx(inner.shape[1] ** -0.5, rel=0.02)
    gate = block.norm1.linear.weight
    assert float(gate.std()) == pytest.approx(gate.shape[1] ** -0.5 / 0.25 / (2 * 2) ** 0.5, rel=0.02)
    assert float(block.norm1.linear.bias.abs().max()) == 0


def test_branches_that_nothing_gates_are_made_smaller():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(64)
            self.to_out = nn.ModuleList([nn.Linear(64, 64), nn.Dropout()])

    model = nn.Module()
    model.blocks = nn.ModuleList([Block() for _ in range(8)])
    model.tokens = nn.Embedding(10, 64)
    assert depth(model) == 8
    scales, last = Scales(model, None), model.blocks[3].to_out[0]
    assert scales.of("blocks.3.to_out.0", last, "weight", last.weight) == pytest.approx(1 / 8 / 4)
    assert scales.of("tokens", model.tokens, "weight", model.tokens.weight) == 1
    assert Scales(model, 0.5).of("tokens", model.tokens, "weight", model.tokens.weight) == 0.5
