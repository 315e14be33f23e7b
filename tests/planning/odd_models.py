"""Models that a plan cannot follow, each in its own way, and some that it can."""

import sys
from typing import Any

import torch
from torch import nn


class Odd(nn.Module):
    """Two layers; `does` says what its forward does between them."""

    def __init__(self, width: int = 64, does: str = "nothing") -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.does = does
        if does == "refuses":
            raise ValueError("width:\n  not this one")
        if does == "exits":
            sys.exit("no such package")

    def forward(self, x: torch.Tensor, **given: Any) -> Any:
        h = self.a(x)
        if self.does == "branches" and h.abs().mean().item() > 0:
            return h
        if self.does == "raises":
            raise KeyError("resolution")
        if self.does == "raises nothing said":
            raise RuntimeError
        if self.does == "speaks markup":
            raise RuntimeError("[/bold] [red] {x}: × – ✓\nand more")
        if self.does == "recurses":
            return self(x)
        if self.does == "asks for numbers":
            return self.b(h[h > 0])
        return {"text": "no tensor"} if self.does == "returns no tensor" else self.b(h)


class NoLinear(nn.Module):
    """Without any Linear layer."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(x)
        return result


def no_module(**given: Any) -> dict[str, Any]:
    """What is no model at all."""
    return given
