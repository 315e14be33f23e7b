"""The workload of a run: a module and the arguments of one call to it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from src.config.errors import ConfigError
from src.config.schema import PIPELINE, RootConf
from src.workloads.device import Device
from src.workloads.dims import resolve
from src.workloads.inputs import make_inputs
from src.workloads.model import build_model, empty_model
from src.workloads.pipeline import ImagePipeline, build_pipeline


@dataclass
class Workload:
    """What is computed. `module` is the target: the pipeline, its denoiser, one block of it, or one Linear."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def call(self) -> Any:
        """One forward of the target."""
        return self.module(*self.args, **self.kwargs)

    def twin(self) -> "Workload":
        """The same weights in a second copy, fed the same inputs."""
        return Workload(copy.deepcopy(self.module), self.args, self.kwargs)

    def denoiser(self) -> nn.Module:
        """What treatments are applied to: of a pipeline the denoiser, else the whole target."""
        return self.module.denoiser if isinstance(self.module, ImagePipeline) else self.module


class Whole(nn.Module):
    """A module around a target that Dynamo does not compile by itself: a class of torch.nn, like nn.Linear."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the target."""
        return self.inner(*args, **kwargs)


def build_workload(cfg: RootConf, device: Device, build: Callable[..., nn.Module] = build_model) -> Workload:
    """Build the model and cut out the target, with the arguments that it sees inside the whole model; or build the
    pipeline around it.

    Raises:
        ConfigError: dimensions or weights that don't resolve, or a target that the model does not have or call.
    """
    dtype = getattr(torch, cfg.dtype)
    axes = {"batch": cfg.batch, "resolution": cfg.resolution}
    dims = resolve(cfg.model.dims, axes, "model.dims")
    model = build(cfg.model, device.torch, dtype, cfg.seed)
    if cfg.target == PIPELINE:
        return Workload(*build_pipeline(cfg, model, dims, device.torch))
    kwargs = make_inputs(cfg.model, dims, device.torch, dtype, cfg.seed + 1)
    path = cfg.model.targets[cfg.target]
    if not path:
        return Workload(_compilable(model), (), kwargs)
    where = f"model.targets.{cfg.target}={path}"
    try:
        target = model.get_submodule(path)
    except AttributeError as error:
        raise ConfigError(f"{where}: {error}") from error
    args, kwargs = _arguments_inside(model, kwargs, target, where)
    return Workload(_compilable(target), args, kwargs)


def empty_workload(cfg: RootConf, device: Device) -> Workload:
    """The workload of `build_workload` with a denoiser that has no weights yet: they are on the meta device.

    A part of a model is called with what it sees inside the whole one, which is built to find that out.
    """
    path = cfg.model.targets.get(cfg.target)
    if not path:
        return build_workload(cfg, device, empty_model)
    whole = build_workload(cfg, device)
    model = empty_model(cfg.model, device.torch, getattr(torch, cfg.dtype), cfg.seed)
    return Workload(_compilable(model.get_submodule(path)), whole.args, whole.kwargs)


def is_torchs_own(module: nn.Module) -> bool:
    """Whether the class is one of torch.nn, whose frames Dynamo skips unless something else calls them."""
    return type(module).__module__.startswith("torch.nn.")


def _compilable(module: nn.Module) -> nn.Module:
    return Whole(module) if is_torchs_own(module) or isinstance(module, nn.Linear) else module


@torch.no_grad()
def _arguments_inside(
    model: nn.Module, inputs: dict[str, Any], target: nn.Module, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What `target` is called with during one forward of `model`."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(_detached((args, kwargs)))

    handle = target.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        model(**inputs)
    finally:
        handle.remove()
    if not seen:
        raise ConfigError(f"{where}: a {type(target).__name__} that the model's forward does not call")
    return seen[0]


def _detached(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), value)
