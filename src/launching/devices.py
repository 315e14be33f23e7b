"""The CUDA devices of this machine by the names that CUDA_VISIBLE_DEVICES takes, asked without initialising CUDA."""

import os
from collections.abc import Mapping
from itertools import takewhile

CPU = ""  # no device is visible


def visible_devices(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists, else all that NVML counts; empty: there is none.

    Like CUDA itself, a list ends at its first entry that names no device.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(index) for index in range(_count())]
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, listed.split(","))))


def _count() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver, or no device
        return 0
