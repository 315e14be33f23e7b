import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from src.treatments.formats import Nf4WeightOnlyConfig, Pruned2to4Config, keep_two_of_four

WEIGHT = torch.tensor([[9.0, 1, -7, 4, 0, 0, 0, 0], [1, -2, 3, -4, 5, 5, 5, 5]])


def test_of_every_four_along_k_the_larger_two_are_kept():
    kept = keep_two_of_four(WEIGHT)
    assert kept[0].tolist() == [9, 0, -7, 0, 0, 0, 0, 0]
    assert kept[1, :4].tolist() == [0, 0, 3, -4]
    assert kept[1, 4:].count_nonzero() == 2
    assert WEIGHT[0, 1] == 1


def test_what_is_pruned_is_then_stored_as_told():
    layer = nn.Linear(64, 32, dtype=torch.bfloat16)
    pruned = keep_two_of_four(layer.weight.detach())
    quantize_(layer, Pruned2to4Config(Int8WeightOnlyConfig(set_inductor_config=False)))
    stored = layer.weight.dequantize()
    assert torch.equal(stored == 0, (pruned == 0) | (stored == 0))
    assert (stored - pruned).abs().max() < 0.01


def test_nf4_is_close_and_four_bits():
    layer = nn.Linear(256, 128, dtype=torch.bfloat16)
    before = layer.weight.detach().clone()
    quantize_(layer, Nf4WeightOnlyConfig())
    after = layer.weight.get_original_weight()
    assert 0.05 < (after - before).norm() / before.norm() < 0.15
