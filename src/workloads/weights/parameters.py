"""A model's tensors: random ones made where it has none yet, others moved; what they consist of, and their bytes."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from src.config.schema.model import ComponentConf, ModelConf
from src.workloads.weights.initial import Scales

Heard = Callable[[nn.Module], None]
Shared = dict[int, nn.Parameter | None]  # id of a parameter of several modules -> what it became
_OF_A_NORM = ("gamma", "bias")  # of Wan's and Qwen-Image's VAEs vectors of three or four dimensions


def fill(
    model: nn.Module,
    conf: ModelConf | ComponentConf,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    *,
    made_on: torch.device | None = None,
    only: Collection[nn.Module] | None = None,
    filled: Heard | None = None,
) -> None:
    """Give every module of an outline its weights on the device, one module after another.

    Args:
        made_on: as in `build_model`.
        only: the modules that are wanted; the others stay as they are (their random values are passed over).
        filled: hears of each wanted module as soon as its own parameters and buffers are on the device.
    """
    generator = torch.Generator(device=made_on or device).manual_seed(seed)
    own, scales = own_dtypes(model, dtype), Scales(model, conf.weights.std)
    there: Shared = dict.fromkeys(_shared(model))
    for path, module in model.named_modules():
        wanted = only is None or module in only
        if conf.weights.source != "random":
            if wanted:
                _move(module, device, there)
        else:
            std_of = partial(scales.of, path, module)
            _make(module, partial(own, path), std_of, generator, device, there, wanted)
        if wanted and filled:
            filled(module)


def _shared(model: nn.Module) -> list[int]:
    """The parameters that several modules have, by their ids."""
    counts = Counter(
        id(p) for module in model.modules() for p in module._parameters.values() if p is not None
    )
    return [key for key, count in counts.items() if count > 1]


def _make(
    module: nn.Module,
    own: Callable[[str], torch.dtype],
    std_of: Callable[[str, torch.Tensor], float],
    generator: torch.Generator,
    device: torch.device,
    there: Shared,
    wanted: bool,
) -> None:
    """Replace a module's own meta parameters by seeded values, and move buffers, which hold real content.

    Args:
        there: of shared parameters what has been made so far; it is kept, whatever becomes of it in a module.
        wanted: else only the random values are passed over.
    """
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        made = there.get(id(parameter))
        if made is None:
            value = torch.empty(parameter.shape, device=generator.device, dtype=own(name))
            _initialize(value, name, std_of, generator)
            if not wanted and id(parameter) not in there:
                continue
            made = nn.Parameter(value.to(device), requires_grad=False)
            if id(parameter) in there:
                there[id(parameter)] = made
        if wanted:
            setattr(module, name, made)
    if wanted:
        move_buffers(module, own, device)


def move_buffers(module: nn.Module, own: Callable[[str], torch.dtype], device: torch.device) -> None:
    """Move a module's own buffers; those that a checkpoint holds take the model's dtype."""
    for name, buffer in module.named_buffers(recurse=False):
        stored = buffer.is_floating_point() and name not in module._non_persistent_buffers_set
        module._buffers[name] = buffer.to(device=device, dtype=own(name) if stored else buffer.dtype)


def let_go(model: nn.Module) -> None:
    """Free a model's tensors: parameters, quantized ones too, and buffers are plain ones without content (meta)."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            module._parameters[name] = nn.Parameter(empty, requires_grad=False)
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="meta")


def own_dtypes(model: nn.Module, dtype: torch.dtype) -> Callable[[str, str], torch.dtype]:
    """The dtype of a tensor by its module's path and its name."""
    keep = frozenset(getattr(model, "_keep_in_fp32_modules", None) or ())
    strict = getattr(model, "_keep_in_fp32_modules_strict", None)
    if strict is not None and dtype is not torch.float16:  # transformers: the others only from float16 up
        keep = frozenset(strict)
    return lambda path, name: torch.float32 if keep.intersection([*path.split("."), name]) else dtype


def _move(module: nn.Module, device: torch.device, there: Shared) -> None:
    """Move a module's own parameters and buffers."""
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        moved = there.get(id(parameter))
        if moved is None:
            moved = nn.Parameter(parameter.to(device), requires_grad=False)
            if id(parameter) in there:
                there[id(parameter)] = moved
        setattr(module, name, moved)
    for name, buffer in module.named_buffers(recurse=False):
        module._buffers[name] = buffer.to(device)


def _initialize(
    value: torch.Tensor, name: str, std_of: Callable[[str, torch.Tensor], float], generator: torch.Generator
) -> None:
    """Vectors as a norm layer has them (weight or gamma 1, bias 0), everything else normal."""
    if value.dim() <= 1 or (name in _OF_A_NORM and value.numel() == max(value.shape)):
        value.fill_(1.0 if name in ("weight", "gamma") else 0.0)
    else:
        value.normal_(0.0, std_of(name, value), generator=generator)


def size_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers as stored, looking inside quantized tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor_bytes(tensor) for tensor in {id(t): t for t in tensors}.values())


def storage_bytes(given: Any) -> int:
    """Bytes of all tensors in a tree, each storage counted once."""
    leaves = (leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor))
    storages = (leaf.untyped_storage() for leaf in leaves)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes as stored, looking inside quantized tensors."""
    return sum(math.prod(part.shape) * part.element_size() for _, part in stored("", tensor))


def stored(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that a tensor is stored in, by name: itself, or those that a quantized one consists of."""
    if is_traceable_wrapper_subclass(tensor):
        for part in tensor.__tensor_flatten__()[0]:
            yield from stored(f"{name}.{part}", getattr(tensor, part))
    else:
        yield name, tensor


def floats(given: Any) -> list[torch.Tensor]:
    """The floating-point tensors in a tree: of an output those that can have a gradient."""
    leaves = tree_leaves(given)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
