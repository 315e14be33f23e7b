"""A CUDA device as torch's properties and NVML describe it. Nothing here starts torch or CUDA by itself."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from src.hardware.host import ROOT, text_of

Query = Callable[[Any, Any], Any]  # (the module pynvml, a device's handle) -> what goes into the record

_NVML_QUERIES: dict[str, Query] = {
    "driver_supports_cuda": lambda n, h: _dotted(n.nvmlSystemGetCudaDriverVersion_v2()),
    "max_sm_clock_mhz": lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
    "max_memory_clock_mhz": lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_MEM),
    "application_sm_clock_mhz": lambda n, h: n.nvmlDeviceGetApplicationsClock(h, n.NVML_CLOCK_SM),
    "power_limit_w": lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h) / 1e3,
    "power_limit_default_w": lambda n, h: n.nvmlDeviceGetPowerManagementDefaultLimit(h) / 1e3,
    "ecc": lambda n, h: bool(n.nvmlDeviceGetEccMode(h)[0]),
    "mig": lambda n, h: bool(n.nvmlDeviceGetMigMode(h)[0]),
    "persistence_mode": lambda n, h: bool(n.nvmlDeviceGetPersistenceMode(h)),
    "pcie_generation_max": lambda n, h: n.nvmlDeviceGetMaxPcieLinkGeneration(h),
    "pcie_width": lambda n, h: n.nvmlDeviceGetCurrPcieLinkWidth(h),
    "nvlink_version": lambda n, h: n.nvmlDeviceGetNvLinkVersion(h, 0),
    "nvlinks_active": lambda n, h: _active_nvlinks(n, h),
    "vbios": lambda n, h: n.nvmlDeviceGetVbiosVersion(h),
}


_LIMITS: dict[str, Query] = {
    "power_limit_w": lambda n, h: round(n.nvmlDeviceGetPowerManagementLimit(h) / 1e3),
    "ecc": _NVML_QUERIES["ecc"],
    "mig": _NVML_QUERIES["mig"],
}


def nvidia_driver(root: Path = ROOT) -> str:
    """Version of NVIDIA's kernel driver; ``none`` where there is none."""
    loaded = text_of(root / "sys/module/nvidia/version")
    if loaded or not any(
        (root / path).exists() for path in ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg")
    ):
        return loaded or "none"
    answers, _ = _ask({"driver": lambda nvml, _: nvml.nvmlSystemGetDriverVersion()}, lambda _: None)
    return str(answers.get("driver", "none"))


@cache
def nvidia_names() -> tuple[str, ...]:
    """NVIDIA's devices of this machine, by NVML; those that CUDA_VISIBLE_DEVICES hides are among them."""
    answers, _ = _ask({"names": _names}, lambda _: None)
    return tuple(answers.get("names", ()))


def _names(nvml: Any, _: Any) -> list[str]:
    handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    return [str(nvml.nvmlDeviceGetName(handle)) for handle in handles]


def cuda_limits(properties: Any) -> dict[str, Any]:
    """What bounds a CUDA device beside its name: the power limit that is set, ECC, MIG; NVML's answers, if any."""
    answers, _ = _ask(_LIMITS, lambda nvml: nvml_handle(nvml, properties))
    return answers


def cuda_hardware() -> dict[str, Any]:
    """The CUDA device that torch uses, by torch's properties and NVML's answers.

    Returns:
        A key per property; ``left_out`` says why one that NVML knows is not among them.
    """
    import torch

    properties: Any = torch.cuda.get_device_properties(0)
    of_torch = {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "memory_bus_bits": getattr(properties, "memory_bus_width", None),
        "shared_memory_per_multiprocessor_bytes": getattr(
            properties, "shared_memory_per_multiprocessor", None
        ),
        "uuid": str(properties.uuid) if hasattr(properties, "uuid") else None,
        "pci_bus_id": _pci_bus_id(properties),
    }
    answers, left_out = _ask(_NVML_QUERIES, lambda nvml: nvml_handle(nvml, properties))
    found = {name: value for name, value in (of_torch | answers).items() if value is not None}
    return found | ({"left_out": left_out} if left_out else {})


def _ask(queries: dict[str, Query], handle: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """NVML's answers by name, and the reasons of those that it does not give; nothing it does is an error."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError as error:
        return {}, {"nvml": str(error)}
    try:
        nvml.nvmlInit()
    except Exception as error:
        return {}, {"nvml": str(error)}
    answers: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    try:
        device = handle(nvml)
        for name, query in queries.items():
            try:
                answers[name] = query(nvml, device)
            except Exception as error:  # not supported, or a library's mistake: it costs a key, not the run
                left_out[name] = str(error)
    except Exception as error:
        left_out["nvml"] = str(error)
    finally:
        with suppress(Exception):
            nvml.nvmlShutdown()
    return answers, left_out


class Slice(NamedTuple):
    """A part of a device (MIG) that torch takes for a whole one."""

    handle: Any | None  # NVML's, of the part; None: it is not known which one


def nvml_slice(nvml: Any, properties: Any) -> Slice | None:
    """The part of a device that torch uses; None where it has all of it."""
    uuid = str(getattr(properties, "uuid", "")).removeprefix("GPU-").removeprefix("MIG-")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    names = [chosen] if chosen.startswith("MIG-") else []
    for name in [*names, *([f"MIG-{uuid}"] if uuid else [])]:
        with suppress(nvml.NVMLError):  # a whole device, by the second
            return Slice(nvml.nvmlDeviceGetHandleByUUID(name))
    return Slice(None) if names or "MIG" in str(getattr(properties, "name", "")) else None


def nvml_handle(nvml: Any, properties: Any) -> Any:
    """The handle of the very device that torch uses: NVML counts all devices, torch only the visible ones.

    Of a MIG slice it is that of the whole device.
    """
    uuid = str(getattr(properties, "uuid", "")).removeprefix("GPU-")
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:  # a MIG slice, or a torch that gives no uuid
        bus_id = _pci_bus_id(properties)
        if bus_id is None:
            raise
        return nvml.nvmlDeviceGetHandleByPciBusId(bus_id)


def _pci_bus_id(properties: Any) -> str | None:
    domain, bus, device = (
        getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")
    )
    return (
        None if domain is None or bus is None or device is None else f"{domain:08x}:{bus:02x}:{device:02x}.0"
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _active_nvlinks(nvml: Any, handle: Any) -> int:
    """How many links are up; a device has fewer than NVML could name.

    Raises:
        NVMLError: the device has none at all.
    """
    active = nvml.nvmlDeviceGetNvLinkState(handle, 0)
    for link in range(1, nvml.NVML_NVLINK_MAX_LINKS):
        try:
            active += nvml.nvmlDeviceGetNvLinkState(handle, link)
        except nvml.NVMLError:
            break
    return int(active)
