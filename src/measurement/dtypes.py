"""How fast a device computes in each dtype: by its measured ceilings, else by one quick matmul of each dtype.

What is quick leaves no trace in the run: its operands are mapped, not allocated, and small.
"""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from src.config.schema.root import AUTO, DTYPES
from src.devices.device import Device
from src.measurement.ceilings import cached_ceilings, device_ceilings
from src.workloads.dtype import DtypeRates

_SIDES = {"cpu": 256, "cuda": 4096}
_CALLS, _ENOUGH_S = 20, 0.1  # of a dtype at most; at least three calls


def dtype_rates(device: Device, outputs: Path, *, ceilings: bool) -> DtypeRates:
    """From the device's ceilings: the cached ones, else measured now with `ceilings`; without, the quick way."""
    folder = outputs / "cache" / "ceilings"
    found = device_ceilings(device, folder) if ceilings else cached_ceilings(device, folder)
    return rates_of(found) or quick_rates(device)


def rates_of(ceilings: dict[str, Any] | None) -> DtypeRates | None:
    """The rates of the dtypes among measured ceilings; None where there are none, or a busy machine's."""
    if not ceilings or not ceilings["entries"] or ceilings["crowded"]:
        return None
    entries = {name: ceilings["entries"].get(f"{name}_tflop_s", {}) for name in DTYPES if name != AUTO}
    return DtypeRates(
        {name: entry["value"] for name, entry in entries.items() if "value" in entry},
        {name: entry["reason"] for name, entry in entries.items() if entry.get("refused")},
    )


@cache
def quick_rates(device: Device) -> DtypeRates:
    """One matmul size, a few calls of each dtype: enough to tell a factor, not a ceiling. Once per process.

    On a CPU by the time that one thread was given, so that other processes on the machine do not matter.
    """
    rates = DtypeRates()
    with _one_thread(device), torch.no_grad():
        for name in DTYPES:
            if name == AUTO:
                continue
            try:
                rates.tflop_s[name] = _quick_tflop_s(getattr(torch, name), device)
            except (RuntimeError, TypeError) as error:
                rates.refused[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
    return rates


@contextmanager
def _one_thread(device: Device) -> Iterator[None]:
    threads = torch.get_num_threads()
    if device.kind == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quick_tflop_s(dtype: torch.dtype, device: Device) -> float:
    side = _SIDES[device.kind]
    a, b, out = (_mapped(side, dtype, device) for _ in range(3))
    call = partial(torch.mm, a.normal_(), b.normal_().t(), out=out)
    clock = time.thread_time if device.kind == "cpu" else time.perf_counter
    call()
    times_s: list[float] = []
    while len(times_s) < 3 or (len(times_s) < _CALLS and sum(times_s) < _ENOUGH_S):
        device.synchronize()
        before = clock()
        call()
        device.synchronize()
        times_s.append(clock() - before)
    return 2 * side**3 / max(min(times_s), 1e-9) / 1e12


def _mapped(side: int, dtype: torch.dtype, device: Device) -> torch.Tensor:
    """A square matrix; on a CPU in pages of its own, that malloc never sees."""
    if device.kind != "cpu":
        return torch.empty(side, side, dtype=dtype, device=device.torch)
    return torch.frombuffer(mmap.mmap(-1, side * side * dtype.itemsize), dtype=dtype).view(side, side)
