"""The workload of a run: a module and the arguments of one call to it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from src.config.errors import ConfigError
from src.config.schema.model import DENOISER, PIPELINE, VAE
from src.config.schema.root import RootConf, sizes, sizes_of_call
from src.devices.device import Device
from src.workloads.dims import resolve
from src.workloads.inputs import make_inputs
from src.workloads.inside import arguments_inside
from src.workloads.model import build_model, empty_model, outline, weights_made_on
from src.workloads.pipeline import ImagePipeline, assemble, build_pipeline, parts_of
from src.workloads.recipe import restructured, switch_on
from src.workloads.weights.parameters import Heard, fill, storage_bytes


@dataclass
class Workload:
    """What is computed. `module` is the target: the pipeline, its denoiser, one block of it, or one Linear."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str = ""  # of the target inside the model

    def call(self) -> Any:
        """One forward of the target."""
        return self.module(*self.args, **self.kwargs)

    def state_bytes(self) -> int:
        """What it holds between two calls beside its weights."""
        return 0

    def given_bytes(self) -> int:
        """Of what a call is given."""
        return storage_bytes((self.args, self.kwargs))

    def twin(self) -> "Workload":
        """The same weights in a second copy, fed the same inputs."""
        return Workload(copy.deepcopy(self.module), self.args, self.kwargs, self.path)

    def denoiser(self) -> nn.Module:
        """What is compiled: of a pipeline the denoiser, else the whole target."""
        return self.components()[DENOISER]

    def components(self) -> dict[str, nn.Module]:
        """What `quant.components` can name: of a pipeline all its modules, else the target is the denoiser."""
        if isinstance(self.module, ImagePipeline):
            modules = dict(self.module.named_children())
            return {DENOISER: modules.pop(self.module.denoiser_name), **modules}
        return {DENOISER: self.module}

    def place(self, fqn: str) -> tuple[str, str]:
        """Of a module of the target: the component that holds it, and its name in that whole component."""
        head, _, rest = fqn.partition(".")
        if isinstance(self.module, ImagePipeline):
            return (DENOISER if head == self.module.denoiser_name else head), rest
        inside = rest if isinstance(self.module, Whole) else fqn
        return DENOISER, ".".join(filter(None, [self.path, inside]))


class Whole(nn.Module):
    """A module around a target that Dynamo does not compile by itself: a class of torch.nn, like nn.Linear."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the target."""
        return self.inner(*args, **kwargs)


def build_workload(cfg: RootConf, device: Device, model: nn.Module | None = None) -> Workload:
    """Build the model and cut out the target, with the arguments that it sees inside the whole model; or build the
    pipeline around it.

    For `task=training` those arguments of a part of a model require grad that earlier layers computed.

    Args:
        model: taken as it is instead of building one, whatever the recipe.

    Raises:
        ConfigError: dimensions or weights that don't resolve, or a target that the model does not have or call.
        RunEndedError: `unsupported`, a recipe that the model cannot have.
    """
    dtype = getattr(torch, cfg.dtype)
    if model is None:
        model = build_model(cfg.model, device.torch, dtype, cfg.seed, "model", weights_made_on(cfg))
        if cfg.target != PIPELINE:
            restructured(model, cfg.recipe)
    if cfg.target == PIPELINE:
        of_pipeline = resolve(cfg.model.dims, sizes(cfg), "model.dims")
        return Workload(*build_pipeline(cfg, model, of_pipeline, device.torch))
    dims = resolve(cfg.model.dims, sizes_of_call(cfg), "model.dims")
    kwargs = make_inputs(cfg.model, dims, device.torch, dtype, cfg.seed + 1)
    path = cfg.model.targets[cfg.target]
    target = part_of(model, cfg)
    if not path:
        return Workload(target, (), kwargs)
    args, kwargs = arguments_inside(
        model, kwargs, model.get_submodule(path), _where(cfg), learned=cfg.task.steps
    )
    return Workload(target, args, kwargs, path)


def rebuild(
    cfg: RootConf, device: torch.device, like: Workload, hear: Callable[[nn.Module], Heard] | None = None
) -> Workload:
    """The target of `like` once more on a device, with the same weights and arguments; nothing is called.

    Args:
        like: a workload of this configuration; its own weights may be gone.
        hear: given the target while it is an outline, returns what hears of each module of the target as soon as
            its own weights are on the device (`src.workloads.weights.parameters.fill`).
    """
    dtype = getattr(torch, cfg.dtype)
    parts = parts_of(cfg)
    outlines = {name: outline(part.conf, dtype, part.where, part.seed) for name, part in parts.items()}
    module = assemble(cfg, outlines) if cfg.target == PIPELINE else part_of(outlines[""], cfg)
    if VAE in outlines:
        switch_on(outlines[VAE], cfg.recipe)
    heard = hear(module) if hear else None
    wanted = {*module.modules()}
    for name, part in parts.items():
        fill(
            outlines[name],
            part.conf,
            device,
            dtype,
            part.seed,
            made_on=weights_made_on(cfg),
            only=wanted,
            filled=heard,
        )
    return Workload(module, like.args, like.kwargs, like.path)


def part_of(model: nn.Module, cfg: RootConf) -> nn.Module:
    """The target inside the model, as something that can be compiled.

    Raises:
        ConfigError: the model has no such part.
    """
    try:
        return _compilable(model.get_submodule(cfg.model.targets[cfg.target]))
    except AttributeError as error:
        raise ConfigError(f"{_where(cfg)}: {error}") from error


def empty_workload(cfg: RootConf, device: Device) -> Workload:
    """The workload of `build_workload` with a denoiser that has no weights yet: they are on the meta device.

    A part of a model is called with what it sees inside the whole one, which is built to find that out.
    """
    path = cfg.model.targets.get(cfg.target)
    model = empty_model(cfg.model, device.torch, getattr(torch, cfg.dtype), seed=cfg.seed)
    if not path:
        return build_workload(cfg, device, model)
    whole = build_workload(cfg, device)
    return Workload(part_of(model, cfg), whole.args, whole.kwargs, path)


def is_torchs_own(module: nn.Module) -> bool:
    """Whether the class is one of torch.nn, whose frames Dynamo skips unless something else calls them."""
    return type(module).__module__.startswith("torch.nn.")


def _compilable(module: nn.Module) -> nn.Module:
    return Whole(module) if is_torchs_own(module) or isinstance(module, nn.Linear) else module


def _where(cfg: RootConf) -> str:
    return f"model.targets.{cfg.target}={cfg.model.targets[cfg.target]}"
