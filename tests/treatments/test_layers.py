import pytest
import torch
from torch import nn

from src.config.schema import LayersConf, RequiresConf
from src.treatments.layers import LayerRow, capture_layers, linear_shape, why_not
from src.workloads.workload import Whole, Workload, build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR


class Shared(nn.Module):
    """One Linear called twice with different M, one once by keyword, one never."""

    def __init__(self):
        super().__init__()
        self.often, self.once, self.never = nn.Linear(8, 4), nn.Linear(4, 2), nn.Linear(2, 1)

    def forward(self, x):
        short = self.often(x[:, :1])
        return self.once(input=self.often(x)), short


def test_rows_hold_the_largest_call_and_the_number_of_calls():
    rows, samples = capture_layers(Workload(Shared(), (torch.ones(2, 5, 8),), {}))
    assert [row.as_dict() for row in rows] == [
        {"fqn": "often", "M": 10, "K": 8, "N": 4, "calls": 2, "scheme": "", "reason": ""},
        {"fqn": "once", "M": 10, "K": 4, "N": 2, "calls": 1, "scheme": "", "reason": ""},
    ]
    assert all(row.shape in samples for row in rows)
    assert {shape: tuple(x.shape) for shape, x in samples.items()} == {
        (2, 8, 4): (2, 8),
        (10, 8, 4): (10, 8),
        (10, 4, 2): (10, 4),
    }


def test_hooks_are_gone_afterwards():
    module = Shared()
    capture_layers(Workload(module, (torch.ones(2, 5, 8),), {}))
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_every_linear_of_a_real_model_is_listed(compose, cpu):
    workload = build_workload(compose(*SMALL_FLUX, "batch=2"), cpu)
    rows, _ = capture_layers(workload)
    linears = {name for name, m in workload.module.named_modules() if isinstance(m, nn.Linear)}
    assert {row.fqn for row in rows} == linears
    feed_forward = next(row for row in rows if row.fqn == "transformer_blocks.0.ff.net.0.proj")
    assert feed_forward.shape == (2 * 256, 512, 2048)


def test_shape_of_a_target_that_is_one_linear(compose, cpu):
    rows, _ = capture_layers(build_workload(compose(*SMALL_LINEAR, "batch=3"), cpu))
    assert linear_shape(rows) == {"M": 48, "K": 256, "N": 128}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [LayerRow("a", 1, 2, 3, calls=2)],
        [LayerRow("a", 1, 2, 3, calls=1), LayerRow("b", 1, 2, 3, calls=1)],
    ],
    ids=["none", "called twice", "two"],
)
def test_no_shape_of_anything_else(rows):
    assert linear_shape(rows) == {}


@pytest.mark.parametrize(
    ("layers", "requires", "reason"),
    [
        ({}, {}, ""),
        ({"include": ["attn"]}, {}, ""),
        ({"include": [r"ff\.", "attn"]}, {}, ""),
        ({"include": ["^attn"]}, {}, "not in quant.layers.include"),
        ({"exclude": ["norm"]}, {}, ""),
        ({"exclude": ["norm", r"to_q$"]}, {}, "quant.layers.exclude: to_q$"),
        ({"min_side": 48}, {}, ""),
        ({"min_side": 49}, {}, "a side below quant.layers.min_side=49"),
        ({}, {"k_multiple": 32, "n_multiple": 16}, ""),
        ({}, {"k_multiple": 128}, "K=96 is not a multiple of 128"),
        ({}, {"n_multiple": 32}, "N=48 is not a multiple of 32"),
    ],
)
def test_why_a_scheme_leaves_a_layer_alone(layers, requires, reason):
    row = LayerRow("blocks.0.attn.to_q", M=7, K=96, N=48, calls=1)
    assert why_not(row, LayersConf(**layers), RequiresConf(**requires)) == reason


def test_a_linear_alone_is_named_inside_its_wrapper():
    rows, _ = capture_layers(Workload(Whole(nn.Linear(4, 2)), (torch.ones(3, 4),), {}))
    assert [row.fqn for row in rows] == ["inner"]
