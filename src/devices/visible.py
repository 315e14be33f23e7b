"""The CUDA devices of this machine by the names that CUDA_VISIBLE_DEVICES takes, asked without initialising CUDA."""

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from src.records.locks import locked
from src.records.record import write_json
from src.records.store import is_alive

CPU = ""  # no device is visible


def visible_devices(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists, else all that NVML counts; empty: there is none.

    Like CUDA itself, a list ends at its first entry that names no device.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(index) for index in range(_count())]
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, listed.split(","))))


def start_alone(device: str, start: Callable[[], dict[str, Any]]) -> bool:
    """Start a process on a device unless one that was started so still has it, of whatever sweep of this user's.

    Args:
        device: by the name that it always has; another name of the same device is another device here.
        start: returns what `src.records.store.process` says of the process.

    Returns:
        Whether it was started.
    """
    folder = Path(tempfile.gettempdir()) / f"quantpay-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', device) or 'cpu'}.json"
    with locked(folder / "lock", math.inf):  # whoever has it only starts a process
        if owner.exists() and is_alive(json.loads(owner.read_text(encoding="utf-8"))):
            return False
        write_json(owner, start())
    return True


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
