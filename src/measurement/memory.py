"""Peak memory by phase, in passes of its own: allocator peaks on CUDA, peak RSS from the kernel on a CPU."""

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from src.devices.device import GIB, Device


@dataclass
class Peaks:
    """Peaks of one phase in GiB by kind: ``allocated`` and ``reserved`` on CUDA, ``rss`` on a CPU."""

    gib: dict[str, float] = field(default_factory=dict)
    held_gib: dict[str, float] = field(default_factory=dict)  # when the phase began; on CUDA alone

    def of_the_phase(self) -> "Peaks":
        """Without what the process held before it; on a CPU that is the interpreter, and stays."""
        return Peaks({kind: max(0.0, gib - self.held_gib.get(kind, 0.0)) for kind, gib in self.gib.items()})

    def less(self, other_bytes: int) -> "Peaks":
        """Without what another arm held all the while."""
        return Peaks({kind: max(0.0, gib - other_bytes / GIB) for kind, gib in self.gib.items()})

    def metrics(self, prefix: str) -> dict[str, float]:
        """As metrics of the record, e.g. memory/peak_rss_gib."""
        return {f"memory/{prefix}peak_{kind}_gib": round(gib, 4) for kind, gib in self.gib.items()}

    def phase_metrics(self, phase: str) -> dict[str, float]:
        """As metrics of a phase: its one number (allocated on CUDA, RSS on a CPU), and what was reserved."""
        if not self.gib:
            return {}
        metrics = {f"memory/{phase}_peak_gib": round(next(iter(self.gib.values())), 4)}
        if "reserved" in self.gib:
            metrics[f"memory/{phase}_peak_reserved_gib"] = round(self.gib["reserved"], 4)
        return metrics


class _Meter(Protocol):
    def reset(self) -> dict[str, float]: ...
    def read(self) -> dict[str, float]: ...


class _CudaMeter:
    def reset(self) -> dict[str, float]:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # else what the other arm freed counts as reserved by this one
        torch.cuda.reset_peak_memory_stats()
        return {
            "allocated": torch.cuda.memory_allocated() / GIB,
            "reserved": torch.cuda.memory_reserved() / GIB,
        }

    def read(self) -> dict[str, float]:
        torch.cuda.synchronize()
        return {
            "allocated": torch.cuda.max_memory_allocated() / GIB,
            "reserved": torch.cuda.max_memory_reserved() / GIB,
        }


class _RssMeter:
    """The kernel's own high-water mark, reset by writing 5 to clear_refs (man 5 proc)."""

    def __init__(self) -> None:
        self.resettable = True

    def reset(self) -> dict[str, float]:
        _return_freed()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self.resettable = False  # some containers forbid it: then there is no peak per phase to report
        return {}

    def read(self) -> dict[str, float]:
        if not self.resettable:
            return {}
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return {"rss": int(found.group(1)) * 1024 / GIB} if found else {}


def _return_freed() -> None:
    """Have the C library give back the pages that it keeps of what was freed: a later peak would count them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


@contextmanager
def peak_memory(device: Device) -> Iterator[Peaks]:
    """Measure the peak of what happens inside; filled in when the block ends.

    Garbage is thrown away first: torchao lets each layer that it quantizes refer to itself, so that a quantized model
    which nobody holds any more keeps its memory until somebody looks.
    """
    gc.collect()
    meter: _Meter = _CudaMeter() if device.kind == "cuda" else _RssMeter()
    peaks = Peaks(held_gib=meter.reset())
    try:
        yield peaks
    finally:
        peaks.gib = meter.read()


def give_back(device: Device) -> None:
    """Throw away what nobody holds any more, and what the allocator keeps of it."""
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.empty_cache()


def held_bytes(kind: str) -> int:
    """What this process holds now, of a kind of device: allocated on CUDA, resident on a CPU."""
    if kind == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    _return_freed()
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def device_used_gib(device: Device) -> float | None:
    """The device's own used memory: this process' contexts and caches, and whatever else is on it; None: a CPU."""
    if device.kind != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def fits_twice(model_bytes: int, device: Device) -> bool:
    """Whether a second copy of the model fits on the device next to the first, with room to work."""
    if device.kind != "cuda":
        return model_bytes * 1.5 < _available_bytes()
    free, _ = torch.cuda.mem_get_info()
    return model_bytes * 1.25 < free


def _available_bytes() -> float:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else float("inf")
