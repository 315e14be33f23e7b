"""Lumina 2's lengths of captions, which its forward reads from the values of a mask: known without values too."""

from typing import Any

import torch
from diffusers import Lumina2Transformer2DModel as _Lumina2
from diffusers.models.transformers.transformer_lumina2 import Lumina2RotaryPosEmbed
from torch._subclasses.fake_tensor import FakeTensor


class _Full:
    """What a mask of captions without padding answers, [captions, tokens]."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    def sum(self, dim: int) -> "_Full":
        """Of the tokens, the only thing that is asked."""
        return self

    def tolist(self) -> list[int]:
        """The length of each caption."""
        return [self.shape[1]] * self.shape[0]


class _Rotary(Lumina2RotaryPosEmbed):  # type: ignore[misc]
    """Diffusers' own; of a mask that has no values (meta, fake tensors) all captions count as full."""

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """As diffusers' own."""
        valueless = attention_mask.is_meta or isinstance(attention_mask, FakeTensor)
        return super().forward(hidden_states, _Full(attention_mask.shape) if valueless else attention_mask)


class Lumina2Transformer2DModel(_Lumina2):  # type: ignore[misc]
    """Diffusers' class, whose layers can be listed and counted without memory; it computes the same."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.rope_embedder.__class__ = _Rotary
