"""What the device does while it is measured: clocks, power, temperature, throttling, other processes, energy."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pynvml
import torch

from src.devices.device import GIB, Device
from src.hardware.nvidia import Slice, nvml_handle, nvml_slice

# NVML's reasons for a lower clock that make a round void. A power cap (SW) is not among them: it is how a large
# matmul runs in steady state, so it is recorded as a state of the round.
_SLOWDOWNS = {
    "HW slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "SW thermal slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "HW thermal slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "HW power brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
}
_QUERIES: dict[str, Callable[[Any], float]] = {
    "sm_mhz": lambda h: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM),
    "memory_mhz": lambda h: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_MEM),
    "power_w": lambda h: pynvml.nvmlDeviceGetPowerUsage(h) / 1e3,
    "temperature_c": lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU),
}
Pids = Callable[[], Collection[int]]
_CPUINFO_EVERY_S = 1.0  # reading it asks every CPU for its clock


@dataclass(frozen=True)
class Reading:
    """The device's state at one moment; what it does not tell is left out."""

    values: dict[str, float] = field(
        default_factory=dict
    )  # sm_mhz memory_mhz power_w temperature_c; CPU: cpu_mhz
    slowdowns: tuple[str, ...] = ()  # why it slows itself down


class Holder(NamedTuple):
    """Another process on a device."""

    words: str
    bytes: int | None  # of the device's memory; None: it cannot be told


class Monitor(Protocol):
    """Watches one device. `blind` says why it sees nothing, else it is empty."""

    blind: str

    def read(self) -> Reading:
        """The state now."""
        ...

    def others(self) -> list[str]:
        """Other processes that use the device, in words."""
        ...

    def energy_j(self) -> float | None:
        """The device's energy counter in joules; None where it has none."""
        ...


class Blind:
    """Sees nothing."""

    def __init__(self, why: str = "not watched") -> None:
        self.blind = why

    def read(self) -> Reading:
        """Nothing."""
        return Reading()

    def others(self) -> list[str]:
        """None that it knows of."""
        return []

    def energy_j(self) -> float | None:
        """No counter."""
        return None


class CpuMonitor(Blind):
    """Clock of the CPUs that compute. Other processes are seen by their load (src.devices.load)."""

    def __init__(self, cpus: Sequence[int] = (), root: Path = Path("/")) -> None:
        super().__init__("")
        scaling = [root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus]
        self._scaling = [path for path in scaling if path.exists()]
        self._cpuinfo = root / "proc/cpuinfo"
        self._last = (float("-inf"), Reading())

    def read(self) -> Reading:
        """``cpu_mhz``, the mean over the CPUs; from /proc/cpuinfo at most once a second."""
        if self._scaling:
            mhz = [int(path.read_text()) / 1e3 for path in self._scaling]
            return Reading({"cpu_mhz": sum(mhz) / len(mhz)})
        at, reading = self._last
        if time.monotonic() - at >= _CPUINFO_EVERY_S:
            reading = self._from_cpuinfo()
            self._last = (time.monotonic(), reading)
        return reading

    def _from_cpuinfo(self) -> Reading:
        with contextlib.suppress(OSError):
            found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", self._cpuinfo.read_text(), re.MULTILINE)
            if found:
                return Reading({"cpu_mhz": sum(map(float, found)) / len(found)})
        return Reading()


class NvmlMonitor:
    """An NVIDIA device through NVML; a query that the device does not support is left out.

    Of a MIG slice the clocks and the temperature are the whole device's. Its power and its energy are left out, and
    what slows it down is not a reason against a round: other slices may be the cause.

    Args:
        handle: NVML's, of the whole device.
        idle: ids of processes that hold the device and have no work for it now.
        part: the slice of the device that is used; None: all of it.

    Raises:
        pynvml.NVMLError: on reading, when the device is gone.
    """

    def __init__(self, handle: Any, idle: Pids = tuple, part: Slice | None = None) -> None:
        self.handle, self.blind, self._idle = handle, "", idle
        self._holders = part.handle if part else handle
        of_it = {name: query for name, query in _QUERIES.items() if not (part and name == "power_w")}
        self._queries = {name: query for name, query in of_it.items() if self._supports(query)}
        self._reasons = not part and self._supports(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        self._energy = not part and self._supports(pynvml.nvmlDeviceGetTotalEnergyConsumption)

    def _supports(self, query: Callable[[Any], Any]) -> bool:
        try:
            query(self.handle)
        except (
            pynvml.NVMLError_NotSupported,
            pynvml.NVMLError_NoPermission,
            pynvml.NVMLError_FunctionNotFound,
        ):
            return False
        return True

    def read(self) -> Reading:
        """Clocks in MHz, power in W, temperature in °C, ``power_capped`` 0 or 1, and slowdowns."""
        values = {name: float(query(self.handle)) for name, query in self._queries.items()}
        if not self._reasons:
            return Reading(values)
        bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self.handle)
        values["power_capped"] = float(bool(bits & pynvml.nvmlClocksEventReasonSwPowerCap))
        return Reading(values, tuple(name for name, bit in _SLOWDOWNS.items() if bits & bit))

    def others(self) -> list[str]:
        """Other compute processes, but for idle ones."""
        return [holder.words for holder in self.holders()]

    def holders(self) -> list[Holder]:
        """Other compute processes, but for idle ones.

        In a container pids may be the host's: then one of the listed is this one, and as many as are idle those.
        """
        ours = {os.getpid(), *self._idle()}
        if self._holders is None:
            return []
        try:
            found = pynvml.nvmlDeviceGetComputeRunningProcesses(self._holders)
        except pynvml.NVMLError:
            return []
        if os.getpid() not in {process.pid for process in found}:
            unnamed = len(found) - len(ours)
            return [Holder(f"{unnamed} processes of another namespace", None)] if unnamed > 0 else []
        return [Holder(_in_words(each), each.usedGpuMemory or None) for each in found if each.pid not in ours]

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; updated by the device some ten times a second."""
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3 if self._energy else None


def open_monitor(device: Device, cpus: Sequence[int] = (), idle: Pids = tuple) -> Monitor:
    """The monitor of a device; one that sees nothing, and says why, where there is no NVML.

    Args:
        cpus: CPUs that compute; unused on CUDA.
        idle: ids of processes that hold the device and have no work for it now; unused on a CPU.
    """
    if device.kind == "cpu":
        return CpuMonitor(cpus)
    if device.kind != "cuda":
        return Blind(f"no monitor for {device.kind}")
    try:
        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(0)
        return NvmlMonitor(nvml_handle(pynvml, properties), idle, nvml_slice(pynvml, properties))
    except pynvml.NVMLError as error:
        return Blind(f"NVML: {error}")


def _in_words(process: Any) -> str:
    used = process.usedGpuMemory
    return f"pid {process.pid}" + (f" ({used / GIB:.2f} GiB)" if used else "")
