"""An arm whose call is a step of training: forward, backward, optimizer, against a target that stays the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from src.records.products import GRAD_INPUT, GRAD_WEIGHT
from src.workloads.hooks import before, linears
from src.workloads.weights.parameters import floats, storage_bytes, stored, tensor_bytes
from src.workloads.workload import Workload

MakeOptimizer = Callable[[Iterator[torch.nn.Parameter]], Optimizer]


@dataclass
class FirstLook:
    """What the first step would do, seen before anything is compiled or changed; tensors are on the host."""

    output: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]  # by the parameter's name
    saved_bytes: int  # that the model's forward keeps for the backward, beside the weights

    @property
    def gradient_bytes(self) -> int:
        """Of all gradients."""
        return sum(gradient.nbytes for gradient in self.gradients.values())

    @property
    def held_bytes(self) -> int:
        """Of the tensors here."""
        return self.gradient_bytes + sum(tensor.nbytes for tensor in self.output)


@dataclass
class TrainingArm(Workload):
    """A workload that is trained: every call is one step, and the losses of the first ones are kept.

    The loss is the mean squared error to noise that is drawn once, as a denoiser's target is.
    """

    targets: list[torch.Tensor] = field(default_factory=list)  # one per tensor of the output, float32
    optimizer: Optimizer | None = None
    steps: int = 0  # whose losses are kept
    losses: list[torch.Tensor] = field(default_factory=list)  # on the device: reading one would wait for it
    inputs: list[torch.Tensor] = field(default_factory=list)  # arguments that have gradients too

    def call(self) -> torch.Tensor:
        """One step; its loss, before the weights change."""
        assert self.optimizer is not None
        with torch.enable_grad():
            loss = self.loss(self.module(*self.args, **self.kwargs))
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._forget_inputs()
        if len(self.losses) < self.steps:
            self.losses.append(loss.detach().clone())
        return loss.detach()

    @torch.no_grad()
    def output(self) -> list[torch.Tensor]:
        """What the weights give as they are now, on the host."""
        return [each.to("cpu", copy=True) for each in floats(self.module(*self.args, **self.kwargs))]

    def loss(self, output: Any) -> torch.Tensor:
        """Mean squared error of each tensor of the output, added up; a float32 number."""
        pairs = zip(floats(output), self.targets, strict=True)
        return torch.stack([functional.mse_loss(found.float(), target) for found, target in pairs]).sum()

    def first_look(self) -> FirstLook:
        """Output and gradients of the weights as they are; call it before the first step."""
        parts = [part for parameter in self.module.parameters() for _, part in stored("", parameter)]
        own = {part.untyped_storage().data_ptr() for part in parts}
        seen: dict[int, int] = {}  # storage -> bytes

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            for storage in (part.untyped_storage() for _, part in stored("", tensor)):
                if storage.data_ptr() not in own:
                    seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad():
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                output = self.module(*self.args, **self.kwargs)
            loss = self.loss(output)  # what it keeps is not the model's
        loss.backward()
        named = self.module.named_parameters()
        gradients = {name: each.grad.to("cpu", copy=True) for name, each in named if each.grad is not None}
        self.module.zero_grad(set_to_none=True)
        self._forget_inputs()
        found = [tensor.detach().to("cpu", copy=True) for tensor in floats(output)]
        return FirstLook(found, gradients, sum(seen.values()))

    def state_bytes(self) -> int:
        """What the optimizer keeps between two steps."""
        if self.optimizer is None:
            return 0
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(tensor_bytes(value) for value in states if isinstance(value, torch.Tensor))

    def given_bytes(self) -> int:
        """Of what a step is given: the arguments of a call, and what the output is to be."""
        return storage_bytes((self.args, self.kwargs, self.targets))

    def _forget_inputs(self) -> None:
        for each in self.inputs:
            each.grad = None

    def curve(self, begin: Callable[[], None]) -> list[float]:
        """The losses of the first steps; those that were not done yet are done now.

        Args:
            begin: called before each step, to tell CUDA graphs of it: else all steps were one to them.
        """
        while len(self.losses) < self.steps:
            begin()
            self.call()
        return [float(loss) for loss in self.losses]


def train_everything(module: torch.nn.Module) -> None:
    """Let every weight have a gradient that can have one."""
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


class Unstepped(Optimizer):
    """An optimizer that leaves the weights as they are: a step is then forward and backward alone.

    Args:
        params: whose gradients are dropped after each step.
        lr: not looked at, as `fused`.
    """

    def __init__(self, params: Any, lr: float = 0.0, *, fused: bool = False) -> None:
        super().__init__(params, {"lr": lr, "fused": fused})

    def step(self, closure: Any = None) -> Any:
        """Nothing."""


@contextmanager
def gradients_wanted(module: torch.nn.Module) -> Iterator[dict[str, set[str]]]:
    """Inside, hear of each Linear that is called which gradients a step computes there: GRAD_INPUT, GRAD_WEIGHT."""
    found: dict[str, set[str]] = {}

    def hear(name: str, layer: torch.nn.Linear, *given: Any) -> None:
        wanted = found.setdefault(name, set())
        if any(isinstance(each, torch.Tensor) and each.requires_grad for each in tree_leaves(given)):
            wanted.add(GRAD_INPUT)
        if layer.weight.requires_grad:
            wanted.add(GRAD_WEIGHT)

    with before(linears(module), hear):
        yield found


def training_arm(
    workload: Workload, optimizer: MakeOptimizer, steps: int, seed: int, *, probe: bool = False
) -> TrainingArm:
    """A workload made ready for its first step.

    It stays in eval mode: what a step computes is then the same in both arms. Arguments that require grad have a
    gradient in every step: of a part of a model those that earlier layers computed (`build_workload`).

    Args:
        workload: those of its weights that want a gradient are changed by every call.
        optimizer: makes one of parameters.
        steps: whose losses are kept.
        seed: of the target.
        probe: it stands for a layer of a larger model, so whatever comes in has a gradient as well.
    """
    module = workload.module.eval()
    with torch.no_grad():
        output = floats(module(*workload.args, **workload.kwargs))
    generator = torch.Generator().manual_seed(seed)
    targets = [torch.randn(each.shape, generator=generator).to(each.device) for each in output]
    given = floats((workload.args, workload.kwargs))
    for each in given if probe else ():
        each.requires_grad_()
    inputs = [each for each in given if each.requires_grad]
    arm = TrainingArm(
        module, workload.args, workload.kwargs, workload.path, targets, None, steps, inputs=inputs
    )
    arm.optimizer = optimizer(parameter for parameter in module.parameters() if parameter.requires_grad)
    return arm
