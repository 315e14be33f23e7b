"""NVML's handle of the device that torch uses."""

from typing import Any

import pynvml
import torch


def nvml_handle(index: int = 0) -> Any:
    """The NVML handle of torch's CUDA device `index`: CUDA_VISIBLE_DEVICES reorders, so it is found by UUID.

    Raises:
        pynvml.NVMLError: no NVML library, no permission, or a device that it does not know (a MIG slice).
    """
    pynvml.nvmlInit()
    uuid = str(torch.cuda.get_device_properties(index).uuid)
    return pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
