"""What a training step holds: on fake tensors, with stand-ins for peft's adapters, which peft cannot put there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from src.config.schema.root import RootConf
from src.config.schema.steps import LoraConf
from src.planning.needs.live import LiveBytes
from src.training.arm import train_everything
from src.workloads.weights.parameters import floats
from src.workloads.workload import Workload


class Step(NamedTuple):
    """What a training step shows, in bytes."""

    peak: int = 0
    targets: int = 0
    adapters: int = 0


def of_one_step(cfg: RootConf) -> RootConf:
    """The run whose workload is what one step of this one works on: of a training from scratch its own batch."""
    if not cfg.task.trains:
        return cfg
    plain = replace(cfg.model, guidance="none")
    task = replace(cfg.task, steps=True)
    return replace(cfg, batch=cfg.model.training.batch, model=plain, task=task, dtype="float32")


def step_of(workload: Workload, cfg: RootConf) -> Step:
    """The most that forward and backward hold of what they make, with the gradients at their end.

    Args:
        workload: on fake tensors; as it was afterwards.
    """
    module, given, lora = workload.module, floats((workload.args, workload.kwargs)), cfg.training.lora
    if not lora.rank:
        train_everything(module)
    for each in given if cfg.model.probe else ():
        each.requires_grad_()
    try:
        with torch.enable_grad(), _adapted(module, lora) as adapters, LiveBytes() as live:
            loss, numbers = _loss(workload)
            if loss.requires_grad:  # else the adapters fit no layer, and peft refuses the run
                loss.backward()
        return Step(live.peak, numbers * torch.float32.itemsize, adapters)
    finally:
        module.zero_grad(set_to_none=True)
        module.requires_grad_(requires_grad=False)


def _loss(workload: Workload) -> tuple[torch.Tensor, int]:
    """A step's loss, and how many numbers it compares; it alone holds the output from then on."""
    output, target = floats(workload.call()), torch.empty((), dtype=torch.float32)
    losses = [functional.mse_loss(each.float(), target.expand(each.shape)) for each in output]
    return torch.stack(losses).sum(), sum(each.numel() for each in output)


@contextmanager
def _adapted(module: nn.Module, conf: LoraConf) -> Iterator[int]:
    """Inside, the Linear layers that the adapters are for have some beside them, in float32; their bytes.

    Args:
        module: changed in place, and back.
        conf: of the adapters; rank 0: there are none.
    """
    named = [*module.named_modules()] if conf.rank else []
    found = {
        name: layer
        for name, layer in named
        if isinstance(layer, nn.Linear) and re.fullmatch(conf.layers, name)
    }
    put = {name: _Adapted(layer, conf) for name, layer in found.items()}
    for name, adapter in put.items():
        module.set_submodule(name, adapter)
    try:
        yield sum(each.nbytes for adapter in put.values() for each in (adapter.into, adapter.out))
    finally:
        for name, layer in found.items():
            module.set_submodule(name, layer)


class _Adapted(nn.Module):
    """A layer with an adapter, which computes as peft's does: in the adapter's dtype, result in the layer's."""

    def __init__(self, base: nn.Linear, conf: LoraConf) -> None:
        super().__init__()
        like: dict[str, Any] = {"dtype": torch.float32, "device": base.weight.device}
        self.base, self.scale = base, conf.alpha / conf.rank
        self.into = nn.Parameter(torch.empty(conf.rank, base.in_features, **like))
        self.out = nn.Parameter(torch.empty(base.out_features, conf.rank, **like))

    @property
    def weight(self) -> torch.Tensor:
        """The layer's, for code that asks its dtype."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's result and the adapter's."""
        result = self.base(x)
        more = functional.linear(functional.linear(x.to(self.into.dtype), self.into), self.out)
        added: torch.Tensor = result + more * self.scale
        return added.to(result.dtype)
