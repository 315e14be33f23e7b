"""torchao's layers with int8 matmuls forward and backward, so that torch.compile and strided tensors are taken.

torch 2.13 refuses to trace them: their matmuls are allowed in a graph as they are, but are handed a configuration,
which is no value of a graph (torchao 0.18). Here that is bound before. They also look at inputs and gradients as
matrices without a copy, which those of a sequence that was split or joined are not: here they are copied.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torchao.prototype.quantized_training import int8_mixed_precision as torchaos

Matmuls = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class Int8Linear(torchaos.Int8MixedPrecisionTrainingLinear):  # type: ignore[misc]
    """The same layer; its matmuls take tensors alone."""

    matmuls: Matmuls

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Of [..., K] to [..., N]."""
        return self.matmuls(input, self.weight, self.bias)


def let_compile(module: nn.Module) -> None:
    """Change every such layer inside a module, in place."""
    found: list[Any] = [
        layer for layer in module.modules() if type(layer) is torchaos.Int8MixedPrecisionTrainingLinear
    ]
    for layer in found:
        config = layer.config
        layer.__class__ = Int8Linear
        layer.matmuls = _matmuls(config.output, config.grad_input, config.grad_weight)


class _ContiguousGradient(torch.autograd.Function):
    """Nothing forward; backward the gradient in rows, one after the other."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor) -> torch.Tensor:
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].contiguous()


@cache
def _matmuls(*which: bool) -> Matmuls:
    """One function for all layers of a configuration: a graph is then of all of them."""
    config = torchaos.Int8MixedPrecisionTrainingConfig(*which)

    def computed(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        matmuls = torchaos._Int8MixedPrecisionTrainingLinearFunction
        return _ContiguousGradient.apply(matmuls.apply(input.contiguous(), weight, bias, config))  # type: ignore[no-untyped-call]

    allowed: Matmuls = torch.compiler.allow_in_graph(computed)
    return allowed
