"""What a recipe attaches to a pipeline that is ready: a compiled VAE, step caches, offloading (docs/recipes.md).

diffusers does it by hooks that hold the modules they are on: a pipeline with hooks is not copied, but built again.
"""

from dataclasses import fields
from typing import Any

import torch
from hydra.utils import get_class, instantiate

from src.compilation.scopes import compile_module
from src.config.lines import first_line
from src.config.schema.arms import compiled_as
from src.config.schema.recipe import RecipeConf
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.outcomes import unsupported
from src.workloads.pipeline import ImagePipeline
from src.workloads.recipe import changes
from src.workloads.workload import Workload

UNQUANTIZED = "none"  # the scheme
_NO_CACHE = "recipe.cache=none"


def has_hooks(recipe: RecipeConf) -> bool:
    """Whether a pipeline with this recipe must not be copied."""
    return bool(recipe.cache.config) or recipe.offload != "none"


def built_anew(treated: RootConf, base: RootConf) -> bool:
    """Whether the treated arm cannot be a copy of the baseline.

    Args:
        treated: the run as the treated arm has it.
        base: as the baseline has it.
    """
    return (
        base.quant.name != UNQUANTIZED
        or changes(treated.recipe) != changes(base.recipe)
        or has_hooks(base.recipe)
    )


def attach(workload: Workload, cfg: RootConf, device: Device) -> None:
    """Attach what the recipe says to a pipeline whose denoiser is quantized and compiled; to others nothing.

    Raises:
        RunEndedError: `unsupported`, diffusers refuses.
    """
    if not isinstance(workload.module, ImagePipeline):
        return
    module, recipe = workload.module, cfg.recipe
    if recipe.vae_compile:
        decoder: Any = getattr(module.get_submodule("vae"), "decoder", None)
        if decoder is None:
            raise unsupported(
                "recipe.vae_compile: the VAE has no decoder of its own to compile", "recipe.vae_compile=false"
            )
        compile_module(decoder, compiled_as(cfg), whole=True)
    if recipe.cache.config:
        _cache(module, cfg)
    if recipe.offload != "none":
        _OFFLOAD[recipe.offload](module.pipeline, device.torch)


def _cache(module: ImagePipeline, cfg: RootConf) -> None:
    """A step cache, told what it asks of a pipeline: the timestep at which it is, how many there are."""
    conf, denoiser, pipeline = cfg.recipe.cache, module.denoiser, module.pipeline
    enable: Any = getattr(denoiser, "enable_cache", None)
    if enable is None:
        raise unsupported(
            f"recipe.cache={conf.name}: {type(denoiser).__name__} takes no step caches of diffusers",
            _NO_CACHE,
        )
    known = {each.name for each in fields(get_class(conf.config["_target_"]))}
    told = {
        "current_timestep_callback": lambda: pipeline.current_timestep,
        "num_inference_steps": cfg.model.pipeline.steps,
    }
    given = {name: value for name, value in told.items() if name in known and name not in conf.config}
    try:
        enable(instantiate(conf.config, _convert_="all", **given))
    except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
        said = first_line(error.__cause__ or error)
        raise unsupported(f"recipe.cache={conf.name}: diffusers refuses: {said}", _NO_CACHE) from error


def _offload_models(pipeline: Any, device: torch.device) -> None:
    pipeline.enable_model_cpu_offload(device=device)


def _offload_groups(pipeline: Any, device: torch.device) -> None:
    """Layer by layer, the next one fetched while one computes."""
    pipeline.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        non_blocking=True,
        use_stream=True,
    )


_OFFLOAD = {"model": _offload_models, "group": _offload_groups}  # by recipe.offload
