"""What a training goes on from after a kill: one file, replaced as a whole or not at all."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.optim import Optimizer

from src.config.errors import ConfigError
from src.records.record import replaced
from src.training.recipe import DRAWN_BY_STEP
from src.training.step import Trainee
from src.workloads.weights.parameters import stored

NAME = "checkpoint.safetensors"
_RECIPE = "recipe"  # key of the file's metadata
_LOSSES = "losses"
_KEY = "model.training.checkpoint"
# What a checkpoint that does not name them is of.
_UNTOLD = {"quant": "none", "compile": "none", "what is drawn": DRAWN_BY_STEP}


def save_checkpoint(trainee: Trainee, recipe: dict[str, str], folder: Path) -> None:
    """Write the checkpoint, durable and all at once.

    Args:
        trainee: whose next step is to depend on nothing else.
        recipe: what the training is told by: setting -> value.

    Raises:
        OSError: it could not be written, as on a full disk; the checkpoint before is as it was.
    """
    content = save(_tensors(trainee), metadata={_RECIPE: json.dumps(recipe)})
    with replaced(folder / NAME) as file:
        file.write(content)


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
    except ConfigError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise ConfigError(
            f"{_KEY}={folder}: {NAME} cannot be read ({error}); move it away to begin again"
        ) from error
    return True


def _refuse_other(told: dict[str, str], recipe: dict[str, str], path: Path) -> None:
    """Raise ConfigError unless the checkpoint is of this recipe."""
    told = told | {name: value for name, value in _UNTOLD.items() if name not in told}
    names = [name for name in told | recipe if told.get(name) != recipe.get(name)]
    if names:
        name = names[0]
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise ConfigError(
            f"{_KEY}={path.parent}: is of another training: {name} was {told.get(name)} and is {recipe.get(name)}"
            f"{more}; give the settings that it was begun with, or another folder"
        )


def _tensors(trainee: Trainee) -> dict[str, torch.Tensor]:
    """What is saved, by name: the losses, and the plain tensors that everything else is stored in."""
    found = {_LOSSES: torch.tensor(trainee.losses, dtype=torch.float64)}
    return found | {name: value.contiguous() for name, value in _stored(trainee)}


def _stored(trainee: Trainee) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights, their average and the optimizer's state, by name, as they are in memory."""
    for part, module in (("model", trainee.model), ("average", trainee.average)):
        for key, value in module.state_dict().items():
            yield from stored(f"{part}.{key}", value)
    for index, state in trainee.optimizer.state_dict()["state"].items():
        for key, value in state.items():
            yield from stored(f"optimizer.{index}.{key}", value)


@torch.no_grad()
def _take(trainee: Trainee, tensors: dict[str, torch.Tensor]) -> None:
    """Write what was saved over what is in memory."""
    losses = tensors.pop(_LOSSES).tolist()
    _make_state(trainee.optimizer)
    own = dict(_stored(trainee))
    if own.keys() != tensors.keys():
        raise KeyError(min(own.keys() ^ tensors.keys()))
    for name, value in tensors.items():
        if own[name].shape != value.shape:
            raise ValueError(f"{name} is {list(value.shape)}, not {list(own[name].shape)}")
        own[name].copy_(value)
    trainee.losses[:] = losses


def _make_state(optimizer: Optimizer) -> None:
    """Let an optimizer that has not stepped have a state, of whatever form: by a step with gradients of zero."""
    for parameter in (each for group in optimizer.param_groups for each in group["params"]):
        parameter.grad = torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
