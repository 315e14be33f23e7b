"""What a recipe does to a model while it is built: fused projections, memory format, attention (docs/recipes.md).

Everything here is part of the module, so that copies of it have it too, and compiled code sees it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from src.config.lines import first_line
from src.config.schema.recipe import DIFFUSERS, RecipeConf
from src.outcomes import RunEndedError, unsupported
from src.workloads.hooks import linears

_BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CHANGES = ("fused_qkv", "memory_format", "attention")  # the keys of a recipe that change a model
_NO_KERNEL = re.compile(
    r"No (?:viable|available) |not (?:yet )?support|only support|must be|[Ee]xpected|not implemented|requires? "
)
SWITCHES = {
    "vae_tiling": "enable_tiling",
    "vae_slicing": "enable_slicing",
}  # key of a recipe -> a VAE's method


def changes(recipe: RecipeConf) -> tuple[Any, ...]:
    """What a recipe changes in a model; equal for recipes that build the same one."""
    return tuple(getattr(recipe, name) for name in (*CHANGES, *SWITCHES))


def restructured(model: nn.Module, recipe: RecipeConf, vae: nn.Module | None = None) -> None:
    """Change a whole model, in place, as its recipe says; its weights may be on the meta device.

    Args:
        vae: of a pipeline; it has the denoiser's memory format, and may be tiled and sliced.

    Raises:
        RunEndedError: `unsupported`, the model or diffusers cannot do that.
    """
    for name in CHANGES:
        if (value := getattr(recipe, name)) != getattr(RecipeConf, name):
            _DO[name](model, value, vae)
    if vae is not None:
        switch_on(vae, recipe)


def switch_on(vae: nn.Module, recipe: RecipeConf) -> None:
    """Tile and slice a VAE, as the recipe says: attributes of it, which its weights do not bring along.

    Raises:
        RunEndedError: `unsupported`, it cannot.
    """
    for name, switch in SWITCHES.items():
        if getattr(recipe, name):
            _switch(vae, switch, name)


@contextmanager
def recipe_refusals(recipe: RecipeConf) -> Iterator[None]:
    """Turn what a kernel of attention says of tensors that it does not take into the outcome `unsupported`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if recipe.attention == RecipeConf.attention or not _NO_KERNEL.search(str(error)):
            raise
        said = f"recipe.attention={recipe.attention} does not take this model's tensors: {first_line(error)}"
        raise unsupported(said, _remedy("attention")) from error


def _refusal(name: str, why: str) -> RunEndedError:
    return unsupported(f"recipe.{name}: {why}", _remedy(name))


def _remedy(name: str) -> str:
    return f"recipe.{name}={str(getattr(RecipeConf, name)).lower()}, its default, in both arms"


def _switch(vae: nn.Module, switch: str, name: str) -> None:
    found: Any = getattr(vae, switch, None)
    try:
        if found is None:
            raise NotImplementedError(f"it has no {switch}")
        found()
    except NotImplementedError as error:
        raise _refusal(name, f"{type(vae).__name__} cannot: {first_line(error)}") from error


def _fuse(model: nn.Module, *_: Any) -> None:
    fuse: Any = getattr(model, "fuse_qkv_projections", None)
    kind = type(model).__name__
    if fuse is None:
        raise _refusal("fused_qkv", f"{kind} has no fuse_qkv_projections")
    before = len([*linears(model)])
    try:
        fuse()
    except (ValueError, AttributeError, NotImplementedError) as error:
        raise _refusal("fused_qkv", f"{kind} refuses: {first_line(error)}") from error
    if len([*linears(model)]) == before:
        raise _refusal("fused_qkv", f"no attention of {kind} has projections to fuse")
    model.requires_grad_(False)


def _order(model: nn.Module, _: str, vae: nn.Module | None) -> None:
    weights = [
        module.weight
        for part in filter(None, (model, vae))
        for module in part.modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d))
    ]
    if not weights:
        kind = type(model).__name__
        raise _refusal("memory_format", f"{kind} has no convolutions, which channels_last is for")
    for weight in weights:
        weight.data = weight.data.contiguous(memory_format=_CHANNELS_LAST[weight.dim()])


def _attend(model: nn.Module, name: str, *_: Any) -> None:
    found = [module for module in model.modules() if _is_attention(module)]
    if not found:
        raise _refusal("attention", f"{type(model).__name__} has no attention of diffusers' classes")
    if name.startswith(DIFFUSERS):
        _dispatch(model, found, name.removeprefix(DIFFUSERS))
        return
    for module in found:
        cls: Any = type(module)
        module.__class__ = _with_kernel(cls, name)


def _is_attention(module: nn.Module) -> bool:
    from diffusers.models.attention import AttentionModuleMixin
    from diffusers.models.attention_processor import Attention

    return isinstance(module, (Attention, AttentionModuleMixin))


@cache
def _with_kernel(cls: Any, name: str) -> type[nn.Module]:
    """The class of an attention whose kernels are of one kind: inside of the module, where a compiler sees it."""
    backend = _BACKENDS[name]

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(backend):
            return cls.forward(self, *args, **kwargs)

    made: type[nn.Module] = type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})
    return made


def _dispatch(model: nn.Module, attentions: list[nn.Module], name: str) -> None:
    """Let diffusers' dispatcher take a backend, in this model alone: it sets one for the process too."""
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

    known = [each.value for each in AttentionBackendName]
    if name not in known:
        listed = ", ".join(known)
        raise unsupported(f"recipe.attention: diffusers has no backend {name}", f"one of {listed}")
    asked: Any = model
    if not any(hasattr(getattr(each, "processor", None), "_attention_backend") for each in attentions):
        raise _refusal("attention", f"{type(model).__name__} does not go by diffusers' dispatcher")
    try:
        with attention_backend("native"):  # on its end the process' own backend is as it was
            asked.set_attention_backend(name)
    except (RuntimeError, ValueError, ImportError) as error:
        raise _refusal("attention", first_line(error)) from error


_DO: dict[str, Callable[[nn.Module, Any, nn.Module | None], None]] = {
    "fused_qkv": _fuse,
    "memory_format": _order,
    "attention": _attend,
}
