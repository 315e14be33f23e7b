"""What a model is trained for: the loss of one batch, and how good it is in the end."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from src.training.digits import Pictures


class Objective(Protocol):
    """What the loop asks of an objective."""

    def loss(self, model: nn.Module, batch: Pictures, generator: torch.Generator) -> torch.Tensor:
        """The loss of one batch, a single float32 number with a gradient.

        Args:
            batch: on the model's device.
            generator: on the host, of all that is drawn: the same on every device.
        """
        ...

    def judged(self, model: nn.Module, held_out: Pictures) -> dict[str, float]:
        """What held-out pictures say of the model, by name."""
        ...


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow: the model tells the velocity from picture to noise (https://arxiv.org/abs/2209.03003).

    Times are drawn from a logit-normal distribution (https://arxiv.org/abs/2403.03206). Some labels are replaced by
    the class of no class, so that guidance has something to lead away from.
    """

    no_class: int  # the label of no class: one above the last
    class_dropout: float = 0.1
    timesteps: float = 1000.0  # what the model calls time 1

    def loss(self, model: nn.Module, batch: Pictures, generator: torch.Generator) -> torch.Tensor:
        """Mean squared error of the velocity."""
        device, count = batch.images.device, len(batch)
        time = torch.sigmoid(torch.randn(count, generator=generator)).to(device)
        noise = torch.randn(batch.images.shape, generator=generator).to(device)
        dropped = (torch.rand(count, generator=generator) < self.class_dropout).to(device)
        labels = batch.labels.masked_fill(dropped, self.no_class)
        share = time.view(-1, 1, 1, 1)
        noisy = (1 - share) * batch.images + share * noise
        (found,) = model(noisy, timestep=time * self.timesteps, class_labels=labels, return_dict=False)
        return functional.mse_loss(found.float(), noise - batch.images)

    @torch.no_grad()
    def judged(self, model: nn.Module, held_out: Pictures) -> dict[str, float]:
        """The loss of pictures that were not trained on, no class dropped, at the same draws every time."""
        generator = torch.Generator().manual_seed(0)
        whole = FlowMatching(self.no_class, 0.0, self.timesteps)
        return {"held_out_loss": float(whole.loss(model, held_out, generator))}


@dataclass(frozen=True)
class Classification:
    """The model tells a picture's class, and is asked about blurred and noisy ones too."""

    noise: float = 0.1  # standard deviation of what is added to the pictures

    def loss(self, model: nn.Module, batch: Pictures, generator: torch.Generator) -> torch.Tensor:
        """Cross entropy."""
        noise = torch.randn(batch.images.shape, generator=generator).to(batch.images.device)
        return functional.cross_entropy(model(batch.images + self.noise * noise).float(), batch.labels)

    @torch.no_grad()
    def judged(self, model: nn.Module, held_out: Pictures) -> dict[str, float]:
        """The share of held-out pictures that it tells right."""
        right = model(held_out.images).argmax(1) == held_out.labels
        return {"held_out_accuracy": float(right.float().mean())}
