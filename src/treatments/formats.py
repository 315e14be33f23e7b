"""Formats that torchao and torch have the tensors of, but no config: one each, for conf/quant to name.

Source: torchao.quantization.to_nf4 (QLoRA's NormalFloat, doubly quantized); 2:4 sparsity as NVIDIA's sparse tensor
cores take it: of every four neighbours along K two are kept.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.quantization import to_nf4
from torchao.quantization.transform_module import _QUANTIZE_CONFIG_HANDLER, register_quantize_module_handler


@dataclass
class Nf4WeightOnlyConfig(AOBaseConfig):  # type: ignore[misc]
    """4-bit NormalFloat weights; the input is multiplied with the weight dequantized."""

    block_size: int = 64  # weights that share a scale
    scaler_block_size: int = 256  # scales that share a scale; block_size * scaler_block_size divides K * N


@dataclass
class Pruned2to4Config(AOBaseConfig):  # type: ignore[misc]
    """Keep the larger two of every four weights along K, then store what is left as `then` says."""

    then: Any  # a torchao config whose tensor stores 2:4 sparse weights


def keep_two_of_four(weight: torch.Tensor) -> torch.Tensor:
    """The weight [N, K], K a multiple of 4, with the smaller two of every four neighbours in a row set to 0."""
    fours = weight.reshape(-1, 4)
    smaller = fours.abs().argsort(dim=-1)[:, :2]
    return fours.scatter(-1, smaller, 0.0).reshape(weight.shape)


def _to_nf4(module: nn.Module, config: Nf4WeightOnlyConfig) -> nn.Module:
    assert isinstance(module.weight, torch.Tensor)
    weight = to_nf4(module.weight.detach(), config.block_size, config.scaler_block_size)
    module.weight = nn.Parameter(weight, requires_grad=False)
    return module


def _to_2_of_4(module: nn.Module, config: Pruned2to4Config) -> nn.Module:
    assert isinstance(module.weight, torch.Tensor)
    module.weight = nn.Parameter(keep_two_of_four(module.weight.detach()), requires_grad=False)
    treated: nn.Module = _QUANTIZE_CONFIG_HANDLER[type(config.then)](module, config.then)
    return treated


register_quantize_module_handler(Nf4WeightOnlyConfig)(_to_nf4)
register_quantize_module_handler(Pruned2to4Config)(_to_2_of_4)
