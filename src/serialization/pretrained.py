"""A checkpoint that save_pretrained wrote, quantized by diffusers or transformers: examined like one of our own."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.config.lines import first_line
from src.serialization.formats import RefusedError, State
from src.workloads.weights.files import layer_of, method_of, quantized_files
from src.workloads.weights.unquantized import pickled_tensors

PRETRAINED = "pretrained"
_WEIGHTS = ("*.safetensors", "*.bin")


def is_pretrained(content: Any) -> bool:
    """Whether the content of a config.json is a model's of diffusers or transformers."""
    return isinstance(content, dict) and ("_class_name" in content or "architectures" in content)


def described(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What is known of it, as the fields of a `CheckpointInfo`."""
    _, found = quantized_files(folder)
    found = found or pickled_tensors(folder, None)
    size = sum(path.stat().st_size for pattern in _WEIGHTS for path in folder.glob(pattern))
    saved_with = {"diffusers": content.get("_diffusers_version")}
    return {
        "format": PRETRAINED,
        "file": "config.json",
        "bytes": size,
        "sha256": "",
        "model": {"classes": [content.get("_class_name"), *(content.get("architectures") or ())]},
        "quant": {"method": method_of(content)},
        "target": "",
        "dtype": "",
        "layers": [{"fqn": layer_of(name), "scheme": kind} for name, kind in found.items()],
        "tensor_classes": sorted(set(found.values())),
        "versions": {name: version for name, version in saved_with.items() if isinstance(version, str)},
        "unsafe": [],
    }


def layers_apart(layers: Iterable[Mapping[str, Any]], here: Collection[str]) -> str:
    """Which layers are quantized in one of two models only; empty where none is.

    Args:
        layers: of the checkpoint, from its `CheckpointInfo`.
        here: names of those that the run quantizes.
    """
    there = [str(layer["fqn"]) for layer in layers]
    only = {
        "here alone": [name for name in here if name not in there],
        "there alone": [name for name in there if name not in here],
    }
    said = [f"{len(names)} {where} ({names[0]})" for where, names in only.items() if names]
    return f"quantized are {', '.join(said)}: quant.layers says which" if said else ""


def read_pretrained(module: nn.Module, folder: Path, device: torch.device, dtype: torch.dtype) -> State:
    """The state of what the module's own class loads from a folder, unquantized parameters in the dtype.

    Raises:
        RefusedError: the class cannot load it.
    """
    cls: Any = type(module)
    if not hasattr(cls, "from_pretrained"):
        raise RefusedError(
            f"{cls.__name__} has no from_pretrained; a checkpoint of a whole model needs target=denoiser"
        )
    try:
        loaded = cls.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise RefusedError(f"{cls.__name__}.from_pretrained: {first_line(error)}") from error
    return dict(loaded.to(device).state_dict())
