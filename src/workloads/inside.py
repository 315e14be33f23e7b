"""What a part of a model is called with: seen during one forward of the whole model."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from src.config.errors import ConfigError
from src.workloads.hooks import before

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@torch.no_grad()
def arguments_inside(
    model: nn.Module, inputs: dict[str, Any], target: nn.Module, where: str, *, learned: bool = False
) -> Arguments:
    """What `target` is called with during one forward of `model`.

    Args:
        where: the target's key and value, for the error.
        learned: what the model's weights had a part in requires grad, as when the whole model is trained; rotary
            tables, masks and the model's own inputs do not.

    Raises:
        ConfigError: the forward does not call it.
    """
    seen: list[Arguments] = []

    def remember(_: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(_copied((args, kwargs)))

    with before([("", target)], remember), _as_trained(model) if learned else nullcontext():
        model(**inputs)
    if not seen:
        raise ConfigError(f"{where}: a {type(target).__name__} that the model's forward does not call")
    return seen[0]


@contextmanager
def _as_trained(model: nn.Module) -> Iterator[None]:
    """Inside, what is computed from a weight requires grad; nothing is held for a backward, which never comes."""
    weights = [each for each in model.parameters() if each.is_floating_point() and not each.requires_grad]
    for weight in weights:
        weight.requires_grad_()
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_dropped, _dropped):
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)


def _dropped(_: Any) -> Any:
    """Nothing, in place of a tensor."""


def _copied(value: Any) -> Any:
    """Tensors of their own, outside of any graph; one that required grad does."""

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    return torch.utils._pytree.tree_map_only(torch.Tensor, copied, value)
