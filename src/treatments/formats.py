"""Formats that torchao and torch have the tensors of, but no config: one each, for conf/quant to name.

Source: torchao.quantization.to_nf4 (QLoRA's NormalFloat, doubly quantized); 2:4 sparsity as NVIDIA's sparse tensor
cores take it: of every four neighbours along K two are kept.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.sparse import SparseSemiStructuredTensor
from torchao.core.config import AOBaseConfig
from torchao.quantization import to_nf4
from torchao.quantization.quantize_.workflows.float8.float8_sparse_2x4_2d_data_2d_metadata_tensor import (
    Float8Sparse2x4_2DData2DMetadataTensor,
)
from torchao.quantization.transform_module import _QUANTIZE_CONFIG_HANDLER, register_quantize_module_handler

# Tensors that store of every four values the two that are kept; all others would store the zeros as well.
SPARSE: tuple[type[torch.Tensor], ...] = (SparseSemiStructuredTensor, Float8Sparse2x4_2DData2DMetadataTensor)


@dataclass
class Nf4WeightOnlyConfig(AOBaseConfig):  # type: ignore[misc]
    """4-bit NormalFloat weights; the input is multiplied with the weight dequantized."""

    block_size: int = 64  # weights that share a scale
    scaler_block_size: int = 256  # scales that share a scale; block_size * scaler_block_size divides K * N


@dataclass
class Pruned2to4Config(AOBaseConfig):  # type: ignore[misc]
    """Keep the larger two of every four weights along K, then store what is left as `then` says."""

    then: Any  # a torchao config whose tensor stores 2:4 sparse weights: one of `SPARSE`


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
    """Prune and store. A layer that torchao leaves alone keeps its weights, all of them.

    Raises:
        ValueError: the config stores the zeros densely: then it is no 2:4 sparsity, whatever it is called.
    """
    dense = module.weight
    assert isinstance(dense, torch.Tensor)
    module.weight = nn.Parameter(keep_two_of_four(dense.detach()), requires_grad=False)
    treated: nn.Module = _QUANTIZE_CONFIG_HANDLER[type(config.then)](module, config.then)
    stored = treated.weight
    if isinstance(stored, SPARSE):
        return treated
    module.weight = dense
    if type(stored) in (nn.Parameter, torch.Tensor):
        return module
    raise ValueError(
        f"{type(config.then).__name__} makes a {type(stored).__name__}, which stores the zeros too"
    )


register_quantize_module_handler(Nf4WeightOnlyConfig)(_to_nf4)
register_quantize_module_handler(Pruned2to4Config)(_to_2_of_4)
