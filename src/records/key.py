"""What tells runs apart: the run key, a hash of all that can change the number and nothing else, and the axes."""

import hashlib
import json
import os
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from src.config.schema.arms import is_usual, recipe_keys, recipe_text
from src.config.schema.fields import GIVEN
from src.config.schema.model import INDEX, PIPELINE, WeightsConf
from src.config.schema.quant import EmulationConf, QuantConf, RequiresConf, SchemeVariantConf
from src.config.schema.root import GpuConf, RootConf, SerializeConf, sizes
from src.records.environment import counted_variables, versions

# The axes that every run has, `frames` where it makes a video, `recipe` and `treatment` where they are not the usual
# ones; a sweep may have others beside them.
AXES = (
    "model", "quant", "compile", "batch", "gpu", "resolution", "frames", "target", "dtype", "task", "seed", "recipe",
    "treatment",
)  # fmt: skip
PROSE = (
    frozenset(  # keys of a scheme that change nothing; autoquant's candidates are plain mappings of this form
        f.name
        for schema in (QuantConf, SchemeVariantConf, RequiresConf, EmulationConf)
        for f in fields(schema)
        if not f.metadata.get("key", True)
    )
)


def run_key(cfg: RootConf, device: dict[str, Any]) -> str:
    """16 hex digits for a configuration on a device, with the versions installed here.

    Args:
        cfg: the validated configuration; fields with metadata ``key=False`` are left out.
        device: an opened one as a dict, of which its identity and its machine's toolchain count; or what else stands
            for the hardware.
    """
    measured = _keyed(cfg)
    if not cfg.frames:
        del measured["frames"]
    if cfg.task.trains:
        measured["model"]["training"] = _keyed(cfg.model.training)
    if cfg.target != PIPELINE:
        del measured["model"]["pipeline"]
    elif not cfg.model.pipeline.encodes():  # there are no text encoders then
        for name in ("prompt", "text_encoders", "call_with_tokens"):
            del measured["model"]["pipeline"][name]
    if measured["serialize"] == _keyed(SerializeConf()):
        del measured["serialize"]
    if cfg.serialize.load is not None:
        measured["serialize"]["load"] = stamps(Path(cfg.serialize.load))
    if cfg.quant.plan is not None:
        measured["quant"]["plan"] = hashlib.sha256(Path(cfg.quant.plan).read_bytes()).hexdigest()
    content = {
        "config": measured,
        "device": _keyed_device(device),
        "versions": versions(),
        "variables": counted_variables(os.environ),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def workload_key(cfg: RootConf, device: dict[str, Any], *, any_size: bool = False) -> str:
    """16 hex digits for what is the same in all runs that can share their unquantized arms.

    Args:
        cfg: the validated configuration, its dtype settled.
        device: an opened one as a dict.
        any_size: for what can share a process, though not the arms: without a probe's dimensions and batch.
    """
    model, of_call = _keyed(cfg.model), sizes(cfg)
    if any_size and cfg.model.probe:
        del model["dims"]
        model["factory"], of_call = model["factory"].get("_target_"), {}  # its arguments are the dimensions
    content = {
        "model": model,
        **of_call,
        "device": _keyed_device(device),
        "target": cfg.target,
        "dtype": cfg.dtype,
        "seed": cfg.seed,
        "compile": _keyed(cfg.compile),
        "inductor": cfg.quant.on(device["kind"]).inductor,
        "components": cfg.quant.components,
        "ceilings": cfg.measure.ceilings,  # by them the unquantized arm in another dtype is chosen
    }
    if recipe_keys(cfg.recipe):
        content["recipe"] = _keyed(cfg.recipe)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _keyed_device(device: dict[str, Any]) -> dict[str, Any]:
    """Of an opened device what tells it from another, and the compiler and driver that make its code."""
    if not device.get("identity"):
        return device
    return {name: device.get(name) for name in ("identity", "toolchain")}


def count_alike(one: Any, other: Any) -> bool:
    """Whether two parts of configurations are the same in a run key."""
    return bool(_keyed(one) == _keyed(other))


def requested(gpu: GpuConf) -> dict[str, Any]:
    """What stands for the device in the key of a run that a cluster is to run: what was asked for.

    The machine that sends it cannot look at the device, nor at its driver and compiler: the record says which they
    were. What it can look at, packages and variables, travels with the job, and counts as anywhere.
    """
    return {"requested": _keyed(gpu)}


def axes_of(cfg: RootConf) -> dict[str, Any]:
    """The axes that runs are told apart by, and what else differs within the run's sweep."""
    axes = {
        "model": cfg.model.name,
        "quant": cfg.quant.name,
        "compile": cfg.compile.name,
        "batch": cfg.batch,
        "gpu": cfg.gpu.name,
        "resolution": cfg.resolution,
        **({"frames": cfg.frames} if cfg.frames else {}),
        "target": cfg.target,
        "dtype": cfg.dtype,
        "task": cfg.task.name,
        "seed": cfg.seed,
        **({"recipe": told} if (told := recipe_text(cfg.recipe)) else {}),
        **({} if is_usual(cfg) else {"treatment": ", ".join(cfg.treatment)}),
    }
    return axes | {name: value for name, value in cfg.varied.items() if name not in axes}


def _keyed(value: Any, *, argument: bool = False) -> Any:
    """What counts of a value; all of a call's arguments, which may be called ``bits`` too."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = (f for f in fields(value) if _counts(f, getattr(value, f.name)))
        found = {f.name: _keyed(getattr(value, f.name)) for f in kept}
        return found | _files(value) if isinstance(value, WeightsConf) else found
    if isinstance(value, dict):
        argument = argument or "_target_" in value
        kept = (name for name in value if argument or name not in PROSE)
        return {name: _keyed(value[name], argument=argument) for name in kept}
    if isinstance(value, (list, tuple)):
        return [_keyed(item, argument=argument) for item in value]
    return value


def _counts(field: Field[Any], value: Any) -> bool:
    """Whether a field belongs to the key: what counts where it is given only with another value than its default."""
    kind = field.metadata.get("key", True)
    if kind != GIVEN:
        return bool(kind)
    usual = field.default if field.default_factory is MISSING else field.default_factory()
    return not count_alike(value, usual)


def _files(weights: WeightsConf) -> dict[str, Any]:
    """The files of a local checkpoint, each with its size and time: another one in the same folder is another run."""
    folder = weights.folder()
    if folder is None or not folder.is_dir():
        return {}
    if weights.source == "box":
        return {"files": _digests(folder)}
    parts = sorted(folder.glob("[!.]*/")) if (folder / INDEX).is_file() else []  # a whole pipeline's folders
    return {"files": stamps(folder)} | {f"files/{part.name}": stamps(part) for part in parts}


def _digests(folder: Path) -> list[tuple[str, str]]:
    """Name and hash of the files in a folder of the box: an installed copy of them is the same weights."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return [(path.name, _digest(path, path.stat().st_mtime_ns)) for path in files]


@cache
def _digest(path: Path, modified_ns: int) -> str:
    """Hash of a file as it was modified last."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of modification of what lies in a folder."""
    found = ((path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
