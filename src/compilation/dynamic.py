"""Dynamic shapes of code that is compiled ahead of time: which sides of arguments change with a named dimension.

Nothing of it is told by the model. Its inputs are made, and its parts called, at both ends of the range, on tensors
without content; a side that differs is dynamic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.export import Dim, ShapesCollection

from src.compilation.ahead import without_content
from src.compilation.exported import Call, calls_of
from src.compilation.scopes import compiler_parts
from src.config.errors import ConfigError
from src.config.schema.root import RootConf, sizes_of_call
from src.devices.device import Device
from src.outcomes import unsupported
from src.workloads.dims import resolve
from src.workloads.workload import build_workload

Sides = dict[int, tuple[int, int]]  # of a tensor: which, from how small to how large
AXES = ("batch", "resolution", "frames")


def at_sizes(cfg: RootConf, values: Mapping[str, int]) -> RootConf:
    """The run with other values of axes, or of dimensions of its model."""
    axes: dict[str, Any] = {name: value for name, value in values.items() if name in AXES}
    dims = {name: value for name, value in values.items() if name not in AXES}
    return replace(cfg, **axes, model=replace(cfg.model, dims=cfg.model.dims | dims))


def ends(cfg: RootConf) -> list[dict[str, int]]:
    """All of ``compile.dynamic_shapes`` at its least, and all at its most; nothing where no size is dynamic."""
    ranges = cfg.compile.dynamic_shapes
    if not ranges:
        return []
    return [{name: int(sizes[end]) for name, sizes in ranges.items()} for end in (0, 1)]


def inside(cfg: RootConf) -> dict[str, int]:
    """One size within each range of ``compile.dynamic_shapes``, near its middle, that the model can have.

    An odd one where there is one, or an odd number of patches: code that was made for sizes that something divides
    gives other numbers there. A range without one is left out, and all are where the model cannot have them together.
    """
    found = {}
    for name, (low, high) in cfg.compile.dynamic_shapes.items():
        middle = (low + high) // 2
        first = middle | 1 if middle | 1 < high else middle
        sizes = (size for size in range(first, high) if size > low and _has(cfg, {name: size}))
        if size := next(sizes, None):
            found[name] = size
    return found if _has(cfg, found) else {}


def _has(cfg: RootConf, values: Mapping[str, int]) -> bool:
    """Whether the model's dimensions come out with these sizes."""
    resized = at_sizes(cfg, values)
    try:
        resolve(resized.model.dims, sizes_of_call(resized), "model.dims")
    except ConfigError:
        return False
    return True


def calls_at(cfg: RootConf, values: Mapping[str, int], device: Device) -> dict[str, Call]:
    """What each compiled part, by its path in the denoiser, is called with at other sizes, without content."""
    with without_content():
        workload = build_workload(at_sizes(cfg, values), device)
        module = workload.denoiser()
        names = {part: name for name, part in module.named_modules()}
        calls = calls_of(compiler_parts(module, cfg.compile), workload.call)
    return {names[part]: call for part, call in calls.items()}


def dynamic_arguments(call: Call, least: Call, most: Call) -> tuple[Call, ShapesCollection]:
    """Example arguments and, for `torch.export.export`, the sides of each that may change.

    A side of 1 would be taken for a constant: then the example is as large as can be.

    Raises:
        RunEndedError: `unsupported`, an argument that is no tensor changes: it is part of the code.
    """
    if any(1 in _of(tensor, range_) for tensor, range_ in _tensors(call, least, most)):
        leaves, spec = pytree.tree_flatten((call.args, call.kwargs))
        larger = map(_as_large, leaves, pytree.tree_leaves((most.args, most.kwargs)))
        call = Call(*pytree.tree_unflatten(list(larger), spec))
    shapes = ShapesCollection()
    for tensor, sides in _tensors(call, least, most):
        if sides:
            shapes[tensor] = {side: Dim.DYNAMIC(min=low, max=high) for side, (low, high) in sides.items()}
    return call, shapes


def ranges_of(call: Call, least: Call, most: Call) -> list[list[Any]]:
    """Of each tensor of a call the sides of its shape; a dynamic one as [least, most]."""
    return [
        [[*sides[place]] if place in sides else side for place, side in enumerate(tensor.shape)]
        for tensor, sides in _tensors(call, least, most)
    ]


def _tensors(call: Call, least: Call, most: Call) -> Iterator[tuple[torch.Tensor, Sides]]:
    """Each tensor of a call, with the sides that differ between the ends."""
    leaves = (pytree.tree_leaves((each.args, each.kwargs)) for each in (call, least, most))
    for own, low, high in zip(*leaves, strict=True):
        if isinstance(own, torch.Tensor):
            pairs = enumerate(zip(low.shape, high.shape, strict=True))
            yield own, {place: (a, b) for place, (a, b) in pairs if a != b}
        elif low != high:
            raise unsupported(
                f"an argument that is no tensor changes with compile.dynamic_shapes, from {low} to {high}",
                "the dimensions that only tensors have, as batch",
            )


def _of(tensor: torch.Tensor, sides: Sides) -> list[int]:
    return [tensor.shape[place] for place in sides]


def _as_large(own: Any, most: Any) -> Any:
    """A tensor of the other's shape, of zeros; what is no tensor stays."""
    if not isinstance(own, torch.Tensor) or own.shape == most.shape:
        return own
    return torch.zeros([*most.shape], dtype=own.dtype, device=own.device)
