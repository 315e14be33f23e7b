"""What layers are called with, seen during one call of the unquantized workload."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from src.workloads.hooks import before, input_of, own_code
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

    def hear(fqn: str, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = input_of(args, kwargs)
        largest = x.detach().abs().amax()
        inputs = seen.setdefault(fqn, Inputs(largest))
        inputs.amax = torch.maximum(inputs.amax, largest)
        inputs.dims.add(x.dim())

    called = [(fqn, workload.module.get_submodule(fqn)) for fqn in layers]
    with own_code(workload.module), before(called, hear):
        workload.call()
    return seen
