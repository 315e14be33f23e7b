"""Adapters of low rank beside Linear layers, by peft: they are trained, the layers stay as they are.

https://arxiv.org/abs/2106.09685
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from src.config.lines import first_line
from src.config.schema.steps import LoraConf
from src.outcomes import unsupported
from src.workloads.hooks import after, linears

ADAPTERS_NAME = "adapters.safetensors"  # in the run's folder: those of the treated arm
_OTHER_LAYERS = "training.lora.layers=REGEX of the names of Linear layers; layers.json lists them"
_MARK = "lora_"  # in the names of peft's parameters


def add_adapters(module: nn.Module, conf: LoraConf, seed: int) -> None:
    """Put adapters into a module, in float32, and leave nothing else to be trained.

    Args:
        module: changed in place; its layers may be quantized.
        seed: of their first values.

    Raises:
        RunEndedError: `unsupported`, peft is not installed, refuses, or finds no layer of these names.
    """
    if find_spec("peft") is None:
        raise unsupported("training.lora needs the package peft", 'pip install -e ".[lora]"')
    from peft import LoraConfig, inject_adapter_in_model

    given = LoraConfig(r=conf.rank, lora_alpha=conf.alpha, target_modules=conf.layers)
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            inject_adapter_in_model(given, module)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        refused = f"peft refuses training.lora.layers={conf.layers}: {first_line(error)}"
        raise unsupported(refused, _OTHER_LAYERS) from error
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(_MARK in name)
        if _MARK in name:
            parameter.data = parameter.data.float()


def adapters(module: nn.Module) -> dict[str, torch.Tensor]:
    """The adapters' weights by name, on the host."""
    named = module.named_parameters()
    return {name: each.detach().to("cpu", copy=True).contiguous() for name, each in named if _MARK in name}


@torch.no_grad()
def put_adapters(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Write weights of `adapters` into a module that has adapters of the same names.

    Raises:
        KeyError: it lacks one of them.
    """
    for name, parameter in module.named_parameters():
        if _MARK in name:
            parameter.copy_(weights[name])


def saved_and_loaded(module: nn.Module, folder: Path) -> int:
    """Save the adapters, wipe them, and load them from the file; the bytes of the file."""
    path = folder / ADAPTERS_NAME
    weights = adapters(module)
    save_file(weights, path)
    put_adapters(module, {name: torch.zeros_like(each) for name, each in weights.items()})
    put_adapters(module, load_file(path))
    return path.stat().st_size


@contextmanager
def gradient_stops(module: nn.Module) -> Iterator[list[str]]:
    """Inside, hear of each Linear that is called with something that has a gradient, and passes none on."""
    stopped: list[str] = []

    def hear(name: str, _: Any, given: tuple[Any, ...], output: Any) -> None:
        if (
            given
            and isinstance(given[0], torch.Tensor)
            and given[0].requires_grad
            and not output.requires_grad
        ):
            stopped.append(name)

    with after(linears(module), hear):
        yield stopped
