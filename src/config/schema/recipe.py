"""The typed schema of a recipe: what people do to a model beside quantizing and compiling it (docs/recipes.md)."""

from dataclasses import dataclass, field
from typing import Any

from src.config.schema.fields import GIVEN, aside

_GIVEN = {"key": GIVEN}
AUTO_ATTENTION = "auto"  # what torch, or the model's class, chooses
SDPA = ("math", "flash", "efficient", "cudnn")  # kinds of torch's scaled_dot_product_attention
DIFFUSERS = "diffusers."  # before the name of a backend of diffusers' dispatcher


def _flag() -> Any:
    return field(default=False, metadata=_GIVEN)


def _choice(default: str, *choices: str) -> Any:
    return field(default=default, metadata=_GIVEN | {"choices": (default, *choices)})


@dataclass
class CacheConf:
    """A step cache of diffusers: it leaves out work of some steps, and so changes the image."""

    name: str = aside("none")
    description: str = aside("")
    config: dict[str, Any] = field(
        default_factory=dict
    )  # `_target_`, a config that enable_cache takes, and its arguments; empty: none


@dataclass
class RecipeConf:
    """What is done to the model in both arms, but for what `treatment` names."""

    name: str = aside("plain")
    description: str = aside("")
    fused_qkv: bool = _flag()  # one projection in place of three: diffusers' fuse_qkv_projections
    memory_format: str = _choice("contiguous", "channels_last")  # of convolutions' weights
    attention: str = field(
        default=AUTO_ATTENTION, metadata=_GIVEN
    )  # auto, one of SDPA's kinds, or diffusers.NAME
    cuda_graphs: bool = _flag()  # of what is compiled
    vae_compile: bool = _flag()  # of a pipeline: the VAE's decoder, as the denoiser
    vae_tiling: bool = _flag()  # decodes an image tile by tile
    vae_slicing: bool = _flag()  # decodes a batch image by image
    offload: str = _choice("none", "model", "group")  # of a pipeline: weights wait on the host
    cache: CacheConf = field(default_factory=CacheConf, metadata=_GIVEN)  # of a pipeline


@dataclass
class LadderConf:
    """One thing after another: what each step adds, and the step that a run measures against the one before."""

    steps: dict[str, list[str]] = field(
        default_factory=dict
    )  # name -> the keys whose values it adds, as `treatment` names them; empty once that is done
    step: str | None = None
    order: list[str] = field(default_factory=list)  # filled in: the names of all steps
