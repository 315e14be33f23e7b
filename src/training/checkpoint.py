"""What a training goes on from after a kill: one file, replaced as a whole or not at all."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from src.config.errors import ConfigError
from src.training.step import Trainee

NAME = "checkpoint.safetensors"
_RECIPE = "recipe"  # key of the file's metadata
_LOSSES = "losses"
_KEY = "model.training.checkpoint"


def save_checkpoint(trainee: Trainee, recipe: dict[str, str], folder: Path) -> None:
    """Write the checkpoint, durable and all at once.

    Args:
        trainee: whose next step is to depend on nothing else.
        recipe: what the training is told by: setting -> value.
        folder: of the checkpoint.

    Raises:
        OSError: it could not be written, as on a full disk; the checkpoint before is as it was.
    """
    content = save(_tensors(trainee), metadata={_RECIPE: json.dumps(recipe)})
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{NAME}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(folder / NAME)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint, and its folder where that holds nothing else."""
    (folder / NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def load_checkpoint(trainee: Trainee, recipe: dict[str, str], folder: Path) -> bool:
    """Take the trainee to where the checkpoint is.

    Returns:
        Whether there was one.

    Raises:
        ConfigError: it is of another recipe or model, or cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})[_RECIPE])
            _refuse_other(told, recipe, path)
            _take(trainee, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise ConfigError(
            f"{_KEY}={folder}: {NAME} cannot be read ({error}); move it away to begin again"
        ) from error
    return True


def _refuse_other(told: dict[str, str], recipe: dict[str, str], path: Path) -> None:
    """Raise ConfigError unless the checkpoint is of this recipe."""
    names = [name for name in told | recipe if told.get(name) != recipe.get(name)]
    if names:
        name = names[0]
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise ConfigError(
            f"{_KEY}={path.parent}: is of another training: {name} was {told.get(name)} and is {recipe.get(name)}"
            f"{more}; give the settings that it was begun with, or another folder"
        )


def _tensors(trainee: Trainee) -> dict[str, torch.Tensor]:
    found = {_LOSSES: torch.tensor(trainee.losses, dtype=torch.float64)}
    for name, module in (("model", trainee.model), ("average", trainee.average)):
        found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for index, state in trainee.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    return {name: value.contiguous() for name, value in found.items()}


def _take(trainee: Trainee, tensors: dict[str, torch.Tensor]) -> None:
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    trainee.losses[:] = tensors.pop(_LOSSES).tolist()
    for name, value in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = value
    trainee.model.load_state_dict(parts["model"])
    trainee.average.load_state_dict(parts["average"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in parts["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = trainee.optimizer.state_dict()["param_groups"]
    trainee.optimizer.load_state_dict({"state": state, "param_groups": groups})
