"""Whether a device and a model can have a recipe, known before anything is built or measured."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from src.config.schema.arms import bare, baseline_of, is_inherited, is_usual, recipe_keys
from src.config.schema.model import PIPELINE
from src.config.schema.recipe import DIFFUSERS, SDPA, RecipeConf
from src.config.schema.root import RootConf
from src.devices.capability import Status, capability
from src.devices.device import Device
from src.outcomes import RunEndedError, unsupported
from src.records.key import count_alike
from src.workloads.model import empty_model
from src.workloads.recipe import CHANGES, SWITCHES, restructured

_OF_A_PIPELINE = ("vae_compile", "vae_tiling", "vae_slicing", "offload", "cache")
_ASKED: dict[str, tuple[Any, ...]] = {
    "fused_qkv": (True,),
    "memory_format": ("channels_last",),
    "attention": (*SDPA, f"{DIFFUSERS}NAME"),
    "cuda_graphs": (True,),
    "vae_compile": (True,),
    "vae_tiling": (True,),
    "vae_slicing": (True,),
    "offload": ("model", "group"),
}
_ON_CPU = SDPA[:2]  # the kinds of attention that torch has for a CPU


def missing_on(cfg: RootConf, kind: str) -> list[str]:
    """What of a recipe no model can have on this kind of device: ``attention=efficient/cudnn``, ``cuda_graphs``."""
    found = []
    for name, values in _ASKED.items():
        missing = [str(value) for value in values if _is_missing(name, value, cfg, kind)]
        if missing:
            found.append(name if len(missing) == len(values) else f"{name}={'/'.join(missing)}")
    return found


def _is_missing(name: str, value: Any, cfg: RootConf, kind: str) -> bool:
    try:
        recipe = replace(RecipeConf(), **{name: value})
        _whether(name, replace(cfg, target=PIPELINE, recipe=recipe), kind)
    except RunEndedError:
        return True
    return False


def refusals(cfg: RootConf, kind: str) -> Iterator[tuple[str, RunEndedError]]:
    """The keys of the recipe that cannot be had, each with the `unsupported` that says why.

    Args:
        kind: of the device: ``cpu``, ``cuda``.

    Raises:
        ConfigError: a model that cannot be made.
    """
    names = [key.partition(".")[2] for key in recipe_keys(cfg.recipe)]
    models = _models(cfg) if {*names} & {*CHANGES, *SWITCHES} else None
    for name in names:
        try:
            _whether(name, cfg, kind)
            if models and name in (*CHANGES, *SWITCHES):
                only = replace(RecipeConf(), **{name: getattr(cfg.recipe, name)})
                restructured(models[0], only, models[1])
        except RunEndedError as error:
            yield f"recipe.{name}", error


def settled(cfg: RootConf, device: Device) -> tuple[RootConf, list[str]]:
    """The configuration that a run has on a device, and what is left out of it there, each with its reason.

    Only what earlier steps of a ladder would have added is left out.

    Raises:
        RunEndedError: `unsupported`, device or model cannot have the recipe; or the arms would be equal.
        ConfigError: a model that cannot be made.
    """
    left: list[str] = []
    for key, error in refusals(cfg, device.kind):
        if not is_inherited(key, cfg):
            raise error
        left.append(error.reason if error.reason.startswith(key) else f"{key}: {error.reason}")
        cfg = bare(cfg, [key])
    if is_inherited("quant", cfg):
        found = capability(cfg.quant, device, cfg.dtype)
        if found.status is not Status.OK:
            left.append(f"quant: {found.reason}")
            cfg = bare(cfg, ["quant"])
    if not is_usual(cfg) and _arms_equal(cfg):
        named = ", ".join(cfg.treatment)
        said = f"treatment=[{named}] adds nothing here: the arms would be equal"
        raise unsupported("; ".join([said, *left]), f"another value of {named}")
    return cfg, left


def _arms_equal(cfg: RootConf) -> bool:
    """Whether the arms are the same but for their names."""
    base = baseline_of(cfg)
    parts = ("quant", "compile", "recipe")
    return all(count_alike(getattr(cfg, part), getattr(base, part)) for part in parts)


def _models(cfg: RootConf) -> tuple[nn.Module, nn.Module | None]:
    """The model, of a pipeline its VAE too, without weights."""
    cpu, dtype = torch.device("cpu"), getattr(torch, cfg.dtype, torch.float32)
    vae = cfg.model.pipeline.vae
    where = "model.pipeline.vae"
    there = cfg.target == PIPELINE and vae.factory
    return empty_model(cfg.model, cpu, dtype), empty_model(vae, cpu, dtype, where) if there else None


def _whether(name: str, cfg: RootConf, kind: str) -> None:
    if name in _OF_A_PIPELINE and cfg.target != PIPELINE:
        raise unsupported(
            f"recipe.{name} is for whole pipelines: this is target={cfg.target}", "target=pipeline"
        )
    if name.startswith("vae_") and not cfg.model.pipeline.vae.factory:
        raise unsupported(f"recipe.{name}: {cfg.model.name} has no VAE", f"recipe.{name}=false")
    if name in CHANGES and (cfg.quant.where != "device" or cfg.quant.via != "direct"):
        how = (
            f"quant.where={cfg.quant.where}" if cfg.quant.where != "device" else f"quant.via={cfg.quant.via}"
        )
        raise unsupported(
            f"recipe.{name} changes the whole model before it is quantized; {how} never has it whole",
            "quant.where=device quant.via=direct",
        )
    if name in _RULES:
        _RULES[name](cfg, kind)


def _attention(cfg: RootConf, kind: str) -> None:
    asked = cfg.recipe.attention
    if kind == "cpu" and asked in SDPA and asked not in _ON_CPU:
        raise unsupported(
            f"recipe.attention={asked}: torch has this kind for GPUs only", f"recipe.attention={_ON_CPU[1]}"
        )


def _graphs(cfg: RootConf, kind: str) -> None:
    if kind != "cuda":
        raise unsupported("recipe.cuda_graphs: CUDA graphs need a CUDA device", "gpu=auto on such a machine")
    if cfg.compile.scope == "none":
        raise unsupported(
            f"recipe.cuda_graphs: torch records what is compiled, and compile={cfg.compile.name} compiles nothing",
            "compile=regional or default",
        )
    if cfg.recipe.cache.name != "none":
        raise unsupported(
            f"recipe.cuda_graphs: recipe.cache={cfg.recipe.cache.name} keeps tensors from one step to the next, "
            "which the next call of a CUDA graph overwrites",
            "recipe.cuda_graphs=false, or cache=none",
        )


def _offload(cfg: RootConf, kind: str) -> None:
    if kind != "cuda":
        raise unsupported(
            f"recipe.offload={cfg.recipe.offload} moves weights between the host and a GPU, and this is a CPU",
            "recipe.offload=none",
        )


def _cache(cfg: RootConf, _: str) -> None:
    if cfg.compile.scope != "none" and cfg.compile.fullgraph:
        raise unsupported(
            f"recipe.cache={cfg.recipe.cache.name}: whether a step is left out is decided between compiled parts, "
            "which compile.fullgraph=true forbids",
            "compile.fullgraph=false, or compile=none",
        )


_RULES: dict[str, Callable[[RootConf, str], None]] = {
    "attention": _attention,
    "cuda_graphs": _graphs,
    "offload": _offload,
    "cache": _cache,
}
