"""torchao's layers with int8 matmuls forward and backward, so that torch.compile takes them.

torch 2.13 refuses to trace them: their matmuls are allowed in a graph as they are, but are handed a configuration,
which is no value of a graph (torchao 0.18). Here that is bound before.
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


@cache
def _matmuls(*which: bool) -> Matmuls:
    """One function for all layers of a configuration: a graph is then of all of them."""
    config = torchaos.Int8MixedPrecisionTrainingConfig(*which)

    def computed(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        return torchaos._Int8MixedPrecisionTrainingLinearFunction.apply(input, weight, bias, config)

    allowed: Matmuls = torch.compiler.allow_in_graph(computed)
    return allowed
