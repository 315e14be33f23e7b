"""Where a model's numbers first leave what their dtype can hold: float16 ends at 65504."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from src.workloads.hooks import after, own_code
from src.workloads.weights.parameters import floats


@dataclass(frozen=True)
class NotFinite:
    """The first module whose output holds NaN or infinity."""

    fqn: str  # inside the module that was called
    kind: str  # its class
    dtype: str  # of that output
    holds: str  # infinity, NaN, or both


@torch.no_grad()
def first_not_finite(module: nn.Module, call: Callable[[], Any]) -> NotFinite | None:
    """Call once, uncompiled; modules count in the order in which they return, so inner ones before outer ones.

    Returns:
        None when every module's output was finite: what is not came about between modules.
    """
    found: list[NotFinite] = []
    named = ((fqn, inner) for fqn, inner in module.named_modules() if fqn)
    with own_code(module), after(named, partial(_look, found)):
        call()
    return found[0] if found else None


def is_finite(output: Any) -> bool:
    """Whether all floating-point tensors of an output are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in floats(output))


def _look(found: list[NotFinite], fqn: str, module: nn.Module, args: Any, output: Any) -> None:
    if found or is_finite(output):
        return
    tensor = next(t for t in floats(output) if not torch.isfinite(t).all())
    kinds = {"infinity": bool(tensor.isinf().any()), "NaN": bool(tensor.isnan().any())}
    holds = " and ".join(kind for kind, there in kinds.items() if there)
    found.append(NotFinite(fqn, type(module).__name__, str(tensor.dtype).removeprefix("torch."), holds))
