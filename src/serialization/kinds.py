"""What must be the same for one package to serve two blocks of a model."""

import hashlib
from typing import Any

import torch
from torch import nn

from src.compilation.exported import Call, weights_of

_PLAIN = (bool, int, float, str, type(None))
_OF_ANY_MODULE = frozenset(vars(nn.Module()))  # its parameters, hooks and the like


def kind_of_block(part: nn.Module, call: Call) -> str:
    """A text that is equal for blocks that one code can serve.

    Class, attributes of the block and its parts, weights' shapes and dtypes, and how it is called. Code is compiled
    of one block: what another one holds otherwise would be wrong in it.
    """
    modules = [(name, type(each).__qualname__, _attributes(each)) for name, each in part.named_modules()]
    return repr((type(part), modules, weights_of(part), call.signature()))


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {
        key: _told(value)
        for key, value in vars(module).items()
        if key not in _OF_ANY_MODULE or isinstance(value, _PLAIN)
    }


def _told(value: Any) -> Any:
    """Plain values and collections of them as they are, tensors by their content, other objects by what they hold."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_told(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _told(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, map(_told, value)))
    if isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), [*value.shape], hashlib.sha256(content).hexdigest()
    if isinstance(value, nn.Module):  # one that is no part of the block: itself, as long as it is there
        return type(value).__qualname__, id(value)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    held = {key: each for key, each in getattr(value, "__dict__", {}).items() if isinstance(each, _PLAIN)}
    return name, held
