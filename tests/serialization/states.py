"""Small models with torchao's real tensors."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torchao.prototype.quantization.codebook.codebook_quantized_tensor import CodebookWeightOnlyConfig
from torchao.prototype.quantization.int4.inference_workflow import PrototypeInt4WeightOnlyConfig
from torchao.prototype.quantized_training.int8 import Int8WeightOnlyQuantizedTrainingConfig
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    quantize_,
)

CONFIGS: dict[str, Callable[[], object]] = {
    "int8wo": Int8WeightOnlyConfig,
    "int8dq": Int8DynamicActivationInt8WeightConfig,
    "float8wo": Float8WeightOnlyConfig,
    "int4wo": lambda: PrototypeInt4WeightOnlyConfig(group_size=64),
    "codebook": CodebookWeightOnlyConfig,  # torch.save keeps plain tensors instead, without a word
    "training": Int8WeightOnlyQuantizedTrainingConfig,  # a class that torchao does not register as safe
}


class Small(nn.Module):
    """Two Linears, a parameter of its own name at the top, and both kinds of buffers."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, 64))
        self.shift = nn.Parameter(torch.randn(64))
        self.register_buffer("stored", torch.arange(64.0))
        self.register_buffer("computed", torch.ones(64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * self.computed + self.shift + self.stored


def small(quant: str = "none", width: int = 128) -> nn.Module:
    torch.manual_seed(0)
    model = Small(width).to(torch.bfloat16).eval().requires_grad_(False)
    if quant != "none":
        quantize_(model, CONFIGS[quant]())
    return model


def empty(width: int = 128) -> nn.Module:
    """The same structure, its parameters on the meta device."""
    model = Small(width).to(torch.bfloat16).eval().requires_grad_(False)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.to("meta"), requires_grad=False))
    return model


def leaves(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors that a tensor is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [leaf for name in tensor.__tensor_flatten__()[0] for leaf in leaves(getattr(tensor, name))]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have one class and the same bits."""
    pairs = list(zip(leaves(one), leaves(other), strict=True))
    equal = all(
        a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs
    )
    return type(one) is type(other) and one.shape == other.shape and equal


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)
