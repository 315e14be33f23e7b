"""What layers are called with, seen during one call of the unquantized workload."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from src.compilation.own_code import own_code
from src.workloads.workload import Workload


@dataclass
class Inputs:
    """A layer's inputs: the largest magnitude, and how many dimensions the tensors had."""

    amax: torch.Tensor  # a scalar
    dims: set[int] = field(default_factory=set)


@torch.no_grad()
def observe_inputs(workload: Workload, layers: Sequence[str]) -> dict[str, Inputs]:
    """Call the workload once, uncompiled; layer name -> its inputs. A layer that is not called is left out."""
    seen: dict[str, Inputs] = {}

    def hook(fqn: str, x: torch.Tensor) -> None:
        largest = x.detach().abs().amax()
        inputs = seen.setdefault(fqn, Inputs(largest))
        inputs.amax = torch.maximum(inputs.amax, largest)
        inputs.dims.add(x.dim())

    handles = [
        workload.module.get_submodule(fqn).register_forward_pre_hook(
            lambda _, args, kwargs, fqn=fqn: hook(fqn, args[0] if args else kwargs["input"]), with_kwargs=True
        )
        for fqn in layers
    ]
    try:
        with own_code(workload.module):
            workload.call()
    finally:
        for handle in handles:
            handle.remove()
    return seen
