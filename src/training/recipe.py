"""What tells one training from another, as settings and values: for checkpoints, and for plans."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from src.config.schema.arms import compiled_as
from src.config.schema.root import RootConf
from src.config.schema.training import TrainingConf

_OF_QUANT = ("config", "optimizer", "emulate", "layers")  # what a recipe does, beside its name

# By what a training's batches and noise are drawn. Once it was by the step's number whatever the seed, as of seed 0.
DRAWN_BY_STEP, DRAWN_BY_BOTH = "by the step alone", "by seed and step"


def recipe_of(cfg: RootConf) -> dict[str, str]:
    """Every setting that the weights depend on -> its value; where and how often something is written is none."""
    aside = {each.name for each in fields(TrainingConf) if not each.metadata.get("key", True)}
    training = {name: value for name, value in asdict(cfg.model.training).items() if name not in aside}
    quant = asdict(cfg.quant)
    told = {f"quant.{name}": quant[name] for name in _OF_QUANT if cfg.quant.trains}
    told = {"quant": cfg.quant.name, **_compiled(cfg)} | told
    told |= {"model.factory": cfg.model.factory, "model.training": training, "seed": cfg.seed}
    told["what is drawn"] = DRAWN_BY_BOTH if cfg.seed else DRAWN_BY_STEP
    flat = {key: str(value) for name, each in told.items() for key, value in _flat(name, each)}
    return {key: value for key, value in flat.items() if not key.endswith(".description")}


def work_of(cfg: RootConf) -> dict[str, str]:
    """What the time of a training step depends on, beside model, sizes and recipe; of other runs nothing."""
    if cfg.task.trains:
        return {"batch": str(cfg.model.training.batch), "precision": cfg.model.training.precision}
    if cfg.task.steps:
        conf = cfg.training
        return {"lora.rank": str(conf.lora.rank), "optimizer": str(conf.optimizer.get("_target_"))}
    return {}


def _compiled(cfg: RootConf) -> dict[str, Any]:
    """The compile mode, which rounds in its own way; nothing more of one that compiles nothing."""
    mode = asdict(compiled_as(cfg))
    if mode["scope"] == "none":
        return {"compile": "none"}
    return {"compile": mode.pop("name")} | {f"compile.{name}": value for name, value in mode.items()}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value
