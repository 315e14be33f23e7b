"""How the tensors of a call lie in memory: compiled code reads them by the strides that it was made with."""

import torch


def strides_of(tensor: torch.Tensor) -> list[int]:
    """The strides that code for a tensor can rely on; nothing: it is contiguous, or is to be made so.

    That is where elements share their memory, as after `expand`: no other tensor can be brought to that. The stride
    of a side of 1 is of no use, and told as 0.
    """
    if tensor.is_contiguous():
        return []
    reach = 0
    for stride, side in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if side > 1 and stride <= reach:
            return []
        reach += (side - 1) * stride
    return [stride if side > 1 else 0 for stride, side in zip(tensor.stride(), tensor.shape, strict=True)]


def laid_out(tensor: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """The tensor as `strides_of` says of another one: itself, or a copy."""
    if not strides:
        return tensor.contiguous()
    if strides_of(tensor) == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
