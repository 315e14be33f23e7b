"""A small network that tells which class a picture is of: the judge of samples."""

from itertools import pairwise

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class PictureClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Three convolutions, the mean over the picture, a Linear layer; saved and loaded as diffusers' models are.

    Args:
        width: channels of the first convolution; the others have twice and four times as many.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        sides = (1, width, 2 * width, 4 * width)
        layers = [
            layer
            for inner, outer in pairwise(sides)
            for layer in (nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GELU())
        ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of pictures [n, 1, height, width] in [-1, 1]."""
        found: torch.Tensor = self.head(self.body(pictures).mean((2, 3)))
        return found
