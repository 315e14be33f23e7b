"""What the machine is made of: the CPU as /proc and /sys describe it, a CUDA device as torch and NVML do.

What the machine does not say is left out, never guessed. Nothing here starts torch or CUDA by itself.
"""

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path("/")
_CPUS = Path("sys/devices/system/cpu")
_FREQUENCY_KHZ = ("cpuinfo_min_freq", "cpuinfo_max_freq", "scaling_min_freq", "scaling_max_freq")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def cpu_model(root: Path = ROOT) -> str:
    """The CPU's name as its maker gives it."""
    return cpuinfo(root).get("model name") or platform.processor() or platform.machine()


def cpu_hardware(root: Path = ROOT) -> dict[str, Any]:
    """The host's CPU, memory and what slows or speeds them; keys are left out where the system has no answer.

    Args:
        root: where proc and sys are.

    Returns:
        ``caches`` per level (bytes of one, and how many there are), ``frequency_khz`` as cpufreq limits it, sizes
        in bytes, ``cpu_quota`` in CPUs (a container's limit).
    """
    info, cpus = cpuinfo(root), _cpu_folders(root)
    cores = {(_text(cpu / "topology/physical_package_id"), _text(cpu / "topology/core_id")) for cpu in cpus}
    enabled = re.search(r"\[(\w+)\]", _text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
    found = {
        "model": cpu_model(root),
        "sockets": len({package for package, _ in cores if package}) or None,
        "cores": len(cores) if all(core for _, core in cores) and cores else None,
        "threads_per_core": len(cpus) // len(cores) if cores else None,
        "cpus": len(cpus) or os.cpu_count(),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "cpu_quota": _cpu_quota(root),
        "caches": _caches(cpus),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        "frequency_khz": _frequency_khz(root),
        "governor": _text(root / _CPUS / "cpu0/cpufreq/scaling_governor"),
        "boost": _boost(root),
        "transparent_huge_pages": enabled.group(1) if enabled else None,
        "hypervisor": "hypervisor" in info["flags"].split() if "flags" in info else None,
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "microcode": info.get("microcode"),
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def last_level_cache_mib(root: Path = ROOT) -> float | None:
    """MiB of last-level cache that this process' CPUs share; None where the system does not say."""
    allowed = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
    caches = _caches([cpu for cpu in _cpu_folders(root) if cpu.name in allowed])
    return caches[max(caches)]["bytes"] * caches[max(caches)]["instances"] / 2**20 if caches else None


def cache_bytes(root: Path = ROOT) -> dict[str, int]:
    """Bytes of one cache of each level: l1d, l2, l3."""
    return {level: cache["bytes"] for level, cache in _caches(_cpu_folders(root)).items()}


def cores_of(root: Path = ROOT) -> int | None:
    """Physical cores that this process' CPUs belong to; None where the system does not say."""
    allowed = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
    names = ("topology/physical_package_id", "topology/core_id")
    cores = {tuple(_text(cpu / n) for n in names) for cpu in _cpu_folders(root) if cpu.name in allowed}
    return len(cores) or None


@cache
def cxx_version() -> str:
    """The C++ compiler that inductor calls (``CXX``, else g++), by the first line of its ``--version``."""
    compiler = os.environ.get("CXX") or "g++"
    try:
        done = subprocess.run(
            [*shlex.split(compiler), "--version"], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return "absent"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def nvidia_driver(root: Path = ROOT) -> str:
    """Version of NVIDIA's kernel driver; ``none`` where there is none."""
    loaded = _text(root / "sys/module/nvidia/version")
    if loaded or not any(
        (root / path).exists() for path in ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg")
    ):
        return loaded or "none"
    answers, _ = _ask({"driver": lambda nvml, _: nvml.nvmlSystemGetDriverVersion()}, lambda _: None)
    return str(answers.get("driver", "none"))


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


# ---- CPU


def cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    first = (_text(root / "proc/cpuinfo") or "").split("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): " ".join(value.split()) for name, _, value in lines}


def _cpu_folders(root: Path) -> list[Path]:
    return [cpu for cpu in (root / _CPUS).glob("cpu[0-9]*") if (cpu / "topology").is_dir()]


def _caches(cpus: list[Path]) -> dict[str, dict[str, int]]:
    """Data and unified caches: level -> bytes of one and how many; each is counted once however many share it."""
    seen: dict[tuple[str, str | None], Path] = {}
    for cpu in cpus:
        for index in (cpu / "cache").glob("index[0-9]*"):
            seen.setdefault((index.name, _text(index / "shared_cpu_list")), index)
    caches: dict[str, dict[str, int]] = {}
    for index in seen.values():
        level, kind, size = (_text(index / name) for name in ("level", "type", "size"))
        number = re.fullmatch(r"(\d+)([KMG]?)", size or "")
        if level and number and kind != "Instruction":
            cache = caches.setdefault(
                f"l{level}d" if kind == "Data" else f"l{level}", {"bytes": 0, "instances": 0}
            )
            cache["bytes"] = max(cache["bytes"], int(number.group(1)) * _UNITS[number.group(2)])
            cache["instances"] += 1
    return dict(sorted(caches.items()))


def _frequency_khz(root: Path) -> dict[str, int]:
    limits = {name: _text(root / _CPUS / "cpu0/cpufreq" / name) for name in _FREQUENCY_KHZ}
    return {
        name.removesuffix("_freq"): int(value)
        for name, value in limits.items()
        if value and value.isdecimal()
    }


def _boost(root: Path) -> bool | None:
    """Whether clocks may go beyond the nominal one, where the driver says."""
    boost, no_turbo = _text(root / _CPUS / "cpufreq/boost"), _text(root / _CPUS / "intel_pstate/no_turbo")
    if boost is None and no_turbo is None:
        return None
    return boost == "1" if boost is not None else no_turbo == "0"


def _cpu_quota(root: Path) -> float | None:
    """CPUs' worth of time that this process's control groups (version 2) let it have; None: no limit."""
    named = re.search(r"^0::/(.*)$", _text(root / "proc/self/cgroup") or "", re.MULTILINE)
    group = Path("sys/fs/cgroup") / (named.group(1) if named else "")
    limits = (_text(root / path / "cpu.max") for path in (group, *group.parents))
    found = [re.fullmatch(r"(\d+) (\d+)", limit) for limit in limits if limit]
    return min((round(int(f.group(1)) / int(f.group(2)), 3) for f in found if f), default=None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


# ---- CUDA

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


def nvml_handle(nvml: Any, properties: Any) -> Any:
    """The handle of the very device that torch uses: NVML counts all devices, torch only the visible ones."""
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
