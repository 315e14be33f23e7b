"""How large activations are, block after block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from src.compilation.scopes import repeated_blocks
from src.workloads.workload import Workload


def through_blocks(workload: Workload) -> list[float]:
    """Root mean square of what each block of the model returns first, during one call."""
    with heard_blocks(workload.module) as found:
        workload.call()
    return found


@contextmanager
def heard_blocks(model: nn.Module) -> Iterator[list[float]]:
    """The list that is filled while the model is called."""
    found: list[float] = []

    def hear(module: nn.Module, args: Any, output: Any) -> None:
        leaves = [each for each in torch.utils._pytree.tree_leaves(output) if isinstance(each, torch.Tensor)]
        found.append(max(float(leaf.float().square().mean().sqrt()) for leaf in leaves))

    handles = [block.register_forward_hook(hear) for block in repeated_blocks(model)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
