"""Steps of CUDA graphs: what one step returned may be overwritten by the next."""

import torch

from src.devices.device import Device


def mark_step(device: Device) -> None:
    """Say that a step begins. A CPU has no such graphs, and torch would import all of inductor first: 1 to 3 s."""
    if device.kind == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
