"""Handwritten digits that scikit-learn brings along, as pictures to train on: nothing is downloaded."""

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional

CLASSES = 10
_SIDE = 16  # pixels; the originals have 8
_GREATEST = 16.0  # of the originals' grey values
_HELD_OUT = 360  # of 1797
_SPLIT_SEED = 0  # the same pictures are held out whatever is trained


@dataclass(frozen=True)
class Pictures:
    """Pictures [n, 1, side, side] in [-1, 1], and the class of each [n]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Pictures":
        """The same on a device."""
        return Pictures(self.images.to(device), self.labels.to(device))


@cache
def digits() -> tuple[Pictures, Pictures]:
    """1437 pictures to train on and 360 that are held out, 16 x 16 by bilinear interpolation.

    The data are the test set of https://archive.ics.uci.edu/dataset/80, which scikit-learn installs.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    small = torch.from_numpy(found.images).float().unsqueeze(1) / (_GREATEST / 2) - 1
    images = functional.interpolate(small, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(found.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    held_out, rest = order[:_HELD_OUT], order[_HELD_OUT:]
    return Pictures(images[rest], labels[rest]), Pictures(images[held_out], labels[held_out])
