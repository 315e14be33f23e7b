"""Static activation scales: each layer's taken from what the run itself feeds it, fixed from then on.

Calibrated on the very inputs that it is measured on, a static scheme has the best quality that it can have; its
speed does not depend on the scales.
"""

from typing import Any

import torch

from src.context import RunContext
from src.devices.device import Device
from src.treatments.layers import LayerRow
from src.treatments.observing import observe_inputs
from src.treatments.scheme import TorchaoScheme
from src.workloads.workload import Workload

_SMALLEST = 1e-12  # of a scale: a layer whose inputs are all zero has one too


class CalibratedScheme(TorchaoScheme):
    """A torchao config per layer, given the scale of the layer's inputs as ``act_quant_scale``."""

    def observes(self, device: Device) -> bool:
        """Always: for the scales."""
        return True

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """One call of the unquantized workload: the largest input of each layer that the scheme takes."""
        with run.phase("calibrate"):
            self.inputs = observe_inputs(workload, [row.fqn for row in self.select(rows, run.device)])
        self.try_layers(workload, rows, run)

    def select(self, rows: list[LayerRow], device: Device) -> list[LayerRow]:
        """One fixed scale has as many dimensions as the tensor that it scales."""
        for row in super().select(rows, device):
            dims = self.inputs[row.fqn].dims if row.fqn in self.inputs else set()
            if len(dims) > 1:
                row.reason = f"called with inputs of {' and '.join(map(str, sorted(dims)))} dimensions"
        return [row for row in rows if not row.reason]

    def configs(self, rows: list[LayerRow], device: Device) -> dict[str, Any]:
        """Layer name -> torchao config with the layer's own scale: float32, with as many dimensions as its input.

        A scale lies where the weights are when they are quantized: with ``quant.where=cpu`` on the host.
        """
        assert self.inputs, "search comes before apply"
        place = torch.device("cpu") if self.conf.where == "cpu" else device.torch
        scales = {row.fqn: self._scale(row.fqn).to(place) for row in rows}
        return {fqn: self.torchao_config(device, act_quant_scale=scale) for fqn, scale in scales.items()}

    def _scale(self, fqn: str) -> torch.Tensor:
        assert self.conf.activation_max is not None, "validated: a static scheme has it"
        seen = self.inputs[fqn]
        scale = (seen.amax.float() / self.conf.activation_max).clamp(min=_SMALLEST)
        return scale.reshape([1] * next(iter(seen.dims)))
