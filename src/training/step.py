"""One step of a training: a batch, its loss and gradient, the optimizer, and the average of the weights so far."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from src.config.schema.training import TrainingConf
from src.training.digits import Pictures
from src.training.objectives import Objective

_FIRST_STEPS = 10  # of the average: early weights are forgotten soon
Convert = Callable[[nn.Module], object]  # what a recipe makes of a model, in place


@dataclass
class Trainee:
    """A model in training and all that a next step depends on."""

    model: nn.Module
    average: nn.Module  # the exponential average of its weights, without a recipe: what is kept in the end
    optimizer: Optimizer
    losses: list[float] = field(default_factory=list)  # one per step done

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.losses)


def trainee(
    model: nn.Module,
    conf: TrainingConf,
    convert: Convert = nn.Module.eval,
    optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
) -> Trainee:
    """A model before its first step.

    It stays in eval mode: diffusers' label embedding drops labels in train mode, in every block others.

    Args:
        model: changed in place.
        convert: what a recipe makes of the model; the average is of the model as it was.
        optimizer: takes what AdamW takes.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False)
    model.eval().requires_grad_(True)
    convert(model)
    made = optimizer(
        model.parameters(), lr=conf.learning_rate, betas=(0.9, 0.95), weight_decay=conf.weight_decay
    )
    return Trainee(model, average, made)


def step(trainee: Trainee, objective: Objective, pictures: Pictures, conf: TrainingConf, seed: int) -> float:
    """The next step; its loss.

    What is drawn depends on the seed and the step's number alone, so a training that goes on draws what one in a
    single piece would have drawn.

    Args:
        trainee: changed in place.
        pictures: to train on, on the model's device.
    """
    number = trainee.done
    own_seed = seed_of(seed, number)
    generator = torch.Generator().manual_seed(own_seed)
    chosen = torch.randint(len(pictures), (conf.batch,), generator=generator).to(pictures.labels.device)
    batch = Pictures(pictures.images[chosen], pictures.labels[chosen])
    _set_rate(trainee.optimizer, learning_rate(number, conf))
    device = pictures.labels.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(own_seed)  # a recipe that rounds stochastically draws from torch's own generator
        with torch.enable_grad():
            with torch.autocast(device.type, torch.bfloat16, enabled=conf.precision == "bfloat16"):
                loss = objective.loss(trainee.model, batch, generator)
            loss.backward()
        nn.utils.clip_grad_norm_(trainee.model.parameters(), conf.max_gradient_norm)
        trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)
    _take_into_average(trainee, number, conf.average)
    trainee.losses.append(float(loss.detach()))
    return trainee.losses[-1]


def seed_of(seed: int, number: int) -> int:
    """Of a step's own generators: torch's on a CPU keeps 32 bits. Of seed 0 it is the step's number.

    Other seeds begin far from each other: multiples of 2**32 over the golden ratio, which spread evenly.
    """
    return (number + seed * 0x9E3779B1) % 2**32


def learning_rate(number: int, conf: TrainingConf) -> float:
    """Of a step: linear from 0 during `warmup`, then half a cosine down to 0."""
    if number < conf.warmup:
        return conf.learning_rate * (number + 1) / conf.warmup
    share = (number - conf.warmup) / max(1, conf.steps - conf.warmup)
    return conf.learning_rate * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao's optimizers compile their step with it
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@torch.no_grad()
def _take_into_average(trainee: Trainee, number: int, decay: float) -> None:
    weight = 1 - min(decay, (1 + number) / (_FIRST_STEPS + number))
    for kept, now in zip(trainee.average.parameters(), trainee.model.parameters(), strict=True):
        kept.lerp_(now.dequantize() if is_traceable_wrapper_subclass(now) else now, weight)
