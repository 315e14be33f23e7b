from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_
from torchao.quantization.transform_module import register_quantize_module_handler

from src.records.record import Outcome
from src.treatments import formats
from src.treatments.formats import Nf4WeightOnlyConfig, Pruned2to4Config, keep_two_of_four
from tests.conftest import SMALL_LINEAR

WEIGHT = torch.tensor([[9.0, 1, -7, 4, 0, 0, 0, 0], [1, -2, 3, -4, 5, 5, 5, 5]])
DENSE = Int8WeightOnlyConfig(set_inductor_config=False)


@dataclass
class _LeaveAlone(AOBaseConfig):
    """As torchao does with a layer whose shape its kernel does not take."""


@register_quantize_module_handler(_LeaveAlone)
def _leave_alone(module, config):
    return module


def test_of_every_four_along_k_the_larger_two_are_kept():
    kept = keep_two_of_four(WEIGHT)
    assert kept[0].tolist() == [9, 0, -7, 0, 0, 0, 0, 0]
    assert kept[1, :4].tolist() == [0, 0, 3, -4]
    assert kept[1, 4:].count_nonzero() == 2
    assert WEIGHT[0, 1] == 1


def test_what_is_pruned_is_then_stored_as_told(monkeypatch):
    """int8 stands in for a sparse tensor, which needs a GPU."""
    monkeypatch.setattr(formats, "SPARSE", (Int8Tensor,))
    layer = nn.Linear(64, 32, dtype=torch.bfloat16)
    pruned = keep_two_of_four(layer.weight.detach())
    quantize_(layer, Pruned2to4Config(DENSE))
    stored = layer.weight.dequantize()
    assert torch.equal(stored == 0, (pruned == 0) | (stored == 0))
    assert (stored - pruned).abs().max() < 0.01


@pytest.mark.parametrize("then", [DENSE, _LeaveAlone()], ids=["stored densely", "left alone"])
def test_no_weight_is_pruned_that_is_not_stored_sparse(then):
    layer = nn.Linear(64, 32, dtype=torch.bfloat16)
    before = layer.weight
    if then is DENSE:
        with pytest.raises(ValueError, match="makes a Int8Tensor, which stores the zeros too"):
            quantize_(layer, Pruned2to4Config(then))
    else:
        quantize_(layer, Pruned2to4Config(then))
    assert layer.weight is before
    assert before.count_nonzero() > 0.9 * before.numel()


def test_a_scheme_that_would_store_zeros_densely_is_unsupported(compose, execute_run):
    sparse_in_name = (
        "quant=bf16_2to4", "quant.requires.devices=[]", "quant.requires.compute_capability=null",
        "quant.config.then._target_=torchao.quantization.Int8WeightOnlyConfig",
        "+quant.config.then.set_inductor_config=false",
    )  # fmt: skip
    record = execute_run(compose(*SMALL_LINEAR, *sparse_in_name))
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    assert "stores the zeros too" in record.reason


def test_nf4_is_close_and_four_bits():
    layer = nn.Linear(256, 128, dtype=torch.bfloat16)
    before = layer.weight.detach().clone()
    quantize_(layer, Nf4WeightOnlyConfig())
    after = layer.weight.get_original_weight()
    assert 0.05 < (after - before).norm() / before.norm() < 0.15
