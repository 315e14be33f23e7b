"""How a quantized state dict is written and read: safetensors where its tensors allow it, else a torch file."""

import importlib
import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.serialization import get_unsafe_globals_in_checkpoint
from torchao.prototype.safetensors.safetensors_support import (
    flatten_tensor_state_dict,
    unflatten_tensor_state_dict,
)
from torchao.prototype.safetensors.safetensors_utils import ALLOWED_CLASSES, ALLOWED_TENSORS_SUBCLASSES

from src.config.lines import first_line

State = dict[str, torch.Tensor]

SAFETENSORS, TORCH, PICKLE = "safetensors", "torch", "pickle"
FILES = {SAFETENSORS: "weights.safetensors", TORCH: "weights.pt", PICKLE: "weights.pt"}
_MODULES = ("torchao.", "src.")  # whose tensor classes may be imported, so that they register themselves


class RefusedError(Exception):
    """A format that cannot carry a state, or a file that a format does not hold; its text says why, in one line."""


def tensor_classes(state: State) -> list[str]:
    """The tensor subclasses in a state, as ``module.Class``."""
    kinds = {type(tensor) for tensor in state.values()} - {torch.Tensor}
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


def write_safetensors(state: State, path: Path) -> list[str]:
    """Quantized tensors as plain parts and metadata, in torchao's own layout; plain tensors as they are.

    Returns:
        Nothing unsafe: an empty list.

    Raises:
        RefusedError: a tensor class, an attribute or a memory layout that there is no place for.
    """
    parts: State = {}
    metadata = {"format": "pt"}
    quantized: list[str] = []
    for name, tensor in state.items():
        if type(tensor) is torch.Tensor:
            parts[name] = tensor
        else:
            pieces, metadata[name] = _flattened(name, tensor)
            parts |= pieces
            quantized.append(name)
    if quantized:
        metadata["tensor_names"] = json.dumps(quantized)
    try:
        save_file(parts, path, metadata)
    except (KeyError, RuntimeError, ValueError) as error:  # dtypes, shared memory, strides
        raise RefusedError(f"safetensors: {first_line(error)}") from error
    return []


def read_safetensors(path: Path, device: torch.device, classes: Iterable[str], trust: bool) -> State:
    """Read what `write_safetensors` wrote; into memory, not mapped: a file may be removed once it is loaded."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    tensors: State = load_file(path, device=str(device), backend="pread")
    if "tensor_names" not in metadata:
        return tensors
    quantized, plain = unflatten_tensor_state_dict(tensors, metadata)
    return {**plain, **quantized}


def write_torch(state: State, path: Path) -> list[str]:
    """A file of torch.save.

    Returns:
        What ``torch.load(weights_only=True)`` will not load of it: classes and functions, as ``module.name``.
    """
    torch.save(state, path)
    return sorted(get_unsafe_globals_in_checkpoint(path))


def read_torch(path: Path, device: torch.device, classes: Iterable[str], trust: bool) -> State:
    """Read a file of torch.save: nothing in it is run, but if it is trusted.

    Args:
        classes: tensor classes in it; torchao's register themselves as safe when they are imported.
        trust: load whatever it brings, by an unsafe pickle.

    Raises:
        RefusedError: it holds more than tensors, dtypes and registered classes.
    """
    for name in classes:
        if name.startswith(_MODULES):
            importlib.import_module(name.rpartition(".")[0])
    try:
        state: Any = torch.load(path, map_location=str(device), weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise RefusedError(f"not loaded, since it {_brings(path)}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise RefusedError("holds something else than named tensors")
    return state


WRITERS: dict[str, Callable[[State, Path], list[str]]] = {
    SAFETENSORS: write_safetensors,
    TORCH: write_torch,
}
READERS: dict[str, Callable[[Path, torch.device, Iterable[str], bool], State]] = {
    SAFETENSORS: read_safetensors,
    TORCH: read_torch,
    PICKLE: read_torch,
}


def _flattened(name: str, tensor: torch.Tensor) -> tuple[State, str]:
    """The parts of one quantized tensor, on the CPU, and what puts them together again: tried at once."""
    kind = type(tensor)
    if kind.__name__ not in ALLOWED_TENSORS_SUBCLASSES or ALLOWED_CLASSES[kind.__name__] is not kind:
        raise RefusedError(f"torchao cannot put a {kind.__name__} into safetensors")
    try:
        pieces, metadata = flatten_tensor_state_dict({name: tensor})
        unflatten_tensor_state_dict(pieces, metadata)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"torchao cannot put {name}, a {kind.__name__}, into safetensors: {first_line(error)}"
        ) from error
    return {part: piece.cpu() for part, piece in pieces.items()}, metadata[name]


def _brings(path: Path) -> str:
    try:
        unsafe = sorted(get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError):
        unsafe = []
    return (
        f"brings {', '.join(unsafe[:3])}"
        if unsafe
        else "is no file of torch.save, or does more than hold tensors"
    )
