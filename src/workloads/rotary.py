"""Rotary position embeddings that a pipeline makes and hands to its denoiser, as example inputs."""

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed


def cosines(
    shape: list[int], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """CogVideoX's cosines, [frames * rows * columns, head] from [frames, rows, columns, head]."""
    return _of_video(shape, device)[0].to(dtype)


def sines(
    shape: list[int], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """CogVideoX's sines, [frames * rows * columns, head] from [frames, rows, columns, head]."""
    return _of_video(shape, device)[1].to(dtype)


def _of_video(shape: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    frames, rows, columns, head = shape
    cos, sin = get_3d_rotary_pos_embed(
        head, ((0, 0), (rows, columns)), (rows, columns), frames, device=device
    )
    return cos, sin
