"""The host as /proc and /sys describe it; what they do not say is left out, never guessed."""

import os
import platform
import re
import shlex
import subprocess
from functools import cache
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
    cores = {
        (text_of(cpu / "topology/physical_package_id"), text_of(cpu / "topology/core_id")) for cpu in cpus
    }
    enabled = re.search(r"\[(\w+)\]", text_of(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    memory = re.search(r"MemTotal:\s+(\d+) kB", text_of(root / "proc/meminfo") or "")
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
        "governor": text_of(root / _CPUS / "cpu0/cpufreq/scaling_governor"),
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
    cores = {tuple(text_of(cpu / n) for n in names) for cpu in _cpu_folders(root) if cpu.name in allowed}
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


def cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    first = (text_of(root / "proc/cpuinfo") or "").split("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): " ".join(value.split()) for name, _, value in lines}


def _cpu_folders(root: Path) -> list[Path]:
    return [cpu for cpu in (root / _CPUS).glob("cpu[0-9]*") if (cpu / "topology").is_dir()]


def _caches(cpus: list[Path]) -> dict[str, dict[str, int]]:
    """Data and unified caches: level -> bytes of one and how many; each is counted once however many share it."""
    seen: dict[tuple[str, str | None], Path] = {}
    for cpu in cpus:
        for index in (cpu / "cache").glob("index[0-9]*"):
            seen.setdefault((index.name, text_of(index / "shared_cpu_list")), index)
    caches: dict[str, dict[str, int]] = {}
    for index in seen.values():
        level, kind, size = (text_of(index / name) for name in ("level", "type", "size"))
        number = re.fullmatch(r"(\d+)([KMG]?)", size or "")
        if level and number and kind != "Instruction":
            cache = caches.setdefault(
                f"l{level}d" if kind == "Data" else f"l{level}", {"bytes": 0, "instances": 0}
            )
            cache["bytes"] = max(cache["bytes"], int(number.group(1)) * _UNITS[number.group(2)])
            cache["instances"] += 1
    return dict(sorted(caches.items()))


def _frequency_khz(root: Path) -> dict[str, int]:
    limits = {name: text_of(root / _CPUS / "cpu0/cpufreq" / name) for name in _FREQUENCY_KHZ}
    return {
        name.removesuffix("_freq"): int(value)
        for name, value in limits.items()
        if value and value.isdecimal()
    }


def _boost(root: Path) -> bool | None:
    """Whether clocks may go beyond the nominal one, where the driver says."""
    boost, no_turbo = text_of(root / _CPUS / "cpufreq/boost"), text_of(root / _CPUS / "intel_pstate/no_turbo")
    if boost is None and no_turbo is None:
        return None
    return boost == "1" if boost is not None else no_turbo == "0"


def _cpu_quota(root: Path) -> float | None:
    """CPUs' worth of time that this process's control groups (version 2) let it have; None: no limit."""
    named = re.search(r"^0::/(.*)$", text_of(root / "proc/self/cgroup") or "", re.MULTILINE)
    group = Path("sys/fs/cgroup") / (named.group(1) if named else "")
    limits = (text_of(root / path / "cpu.max") for path in (group, *group.parents))
    found = [re.fullmatch(r"(\d+) (\d+)", limit) for limit in limits if limit]
    return min((round(int(f.group(1)) / int(f.group(2)), 3) for f in found if f), default=None)


def text_of(path: Path) -> str | None:
    """A small file of the kernel's, stripped; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
