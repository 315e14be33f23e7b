"""Devices: what a run is measured on, opened from conf/gpu."""

import os
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from src.config.schema.root import GpuConf
from src.hardware.cpu import cpu_identity, cpu_name
from src.hardware.host import cpu_model, cxx_version, last_level_cache_mib
from src.hardware.nvidia import cuda_hardware, cuda_limits, nvidia_driver
from src.outcomes import unsupported

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """An opened device.

    ``identity`` is everything that tells it from another one: run keys, ceilings, calibrations and the analysis'
    cells go by it. ``name`` shows it to people. ``compute_capability`` is CUDA's, e.g. 8.9.
    """

    kind: str  # torch device type: cpu, cuda
    name: str
    memory_gib: float
    cache_mib: float | None = None  # of the last level: a CPU's L3 (all that this process may use), CUDA's L2
    threads: int | None = None  # CPU: intra-op threads
    compute_capability: float | None = None
    instruction_set: str | None = None  # CPU: what torch's kernels dispatch to
    identity: dict[str, Any] = field(default_factory=dict, hash=False)
    toolchain: dict[str, str] = field(default_factory=dict, hash=False)  # of the machine: in the run key too

    @property
    def torch(self) -> torch.device:
        """The torch device."""
        return torch.device(self.kind)

    def synchronize(self) -> None:
        """Wait until everything sent to the device is done."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def hardware(self) -> dict[str, Any]:
        """What the record says of an accelerator beside the host's CPU, by its kind."""
        return {"cuda": cuda_hardware()} if self.kind == "cuda" else {}

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


class DeviceOpener(Protocol):
    """What `_target_` of a conf/gpu entry names: built with its config, opens the device."""

    def __init__(self, conf: GpuConf) -> None: ...

    def open(self) -> Device:
        """Open the device.

        Raises:
            RunEndedError: `unsupported`, when this machine doesn't have it.
        """
        ...


class CpuDevice:
    """This machine's CPU, with a fixed number of threads."""

    def __init__(self, conf: GpuConf) -> None:
        self.conf = conf

    def open(self) -> Device:
        """Fix the thread count and describe the CPU."""
        model = cpu_model()
        if not re.search(self.conf.match, model):
            raise unsupported(f"gpu={self.conf.name}: this machine's CPU is {model}", "gpu=cpu")
        threads = self.conf.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(threads)
        instruction_set = torch.backends.cpu.get_cpu_capability()
        identity = cpu_identity(threads, instruction_set)
        memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return Device(
            kind="cpu",
            name=cpu_name(identity),
            memory_gib=round(memory_gib, 2),
            cache_mib=last_level_cache_mib(),
            threads=threads,
            instruction_set=instruction_set,
            identity=identity,
            toolchain={"cxx": cxx_version()},
        )


class CudaDevice:
    """The first visible CUDA device, if its name matches."""

    def __init__(self, conf: GpuConf) -> None:
        self.conf = conf

    def open(self) -> Device:
        """Describe the current CUDA device."""
        remedy = "run where there is one, or gpu=cpu"
        if not torch.cuda.is_available():
            raise unsupported(f"gpu={self.conf.name}: no CUDA device on this machine", remedy)
        if torch.version.hip:  # AMD's: caches and capability numbers would be taken for NVIDIA's
            raise unsupported(
                f"gpu={self.conf.name}: this torch is ROCm's; only NVIDIA's GPUs are known", "gpu=cpu"
            )
        properties = torch.cuda.get_device_properties(0)
        if not re.search(self.conf.match, properties.name):
            raise unsupported(f"gpu={self.conf.name}: this machine's device is {properties.name}", remedy)
        identity = _cuda_identity(properties)
        return Device(
            kind="cuda",
            name=_cuda_name(identity),
            memory_gib=round(properties.total_memory / GIB, 2),
            cache_mib=round(properties.L2_cache_size / 2**20, 2),
            compute_capability=float(f"{properties.major}.{properties.minor}"),
            identity=identity,
            toolchain={"cxx": cxx_version(), "driver": nvidia_driver()},
        )


class AutoDevice:
    """The CUDA device of this machine, else its CPU."""

    def __init__(self, conf: GpuConf) -> None:
        self.conf = conf

    def open(self) -> Device:
        """Open whichever there is."""
        opener: DeviceOpener = CudaDevice(self.conf) if torch.cuda.is_available() else CpuDevice(self.conf)
        return opener.open()


def _cuda_identity(properties: Any) -> dict[str, Any]:
    """What tells a CUDA device from another one; what is not known is null."""
    limits = cuda_limits(properties)
    return {
        "kind": "cuda",
        "model": properties.name,  # of a MIG slice: with the slice's own name
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / GIB, 1),
        "multiprocessors": getattr(properties, "multi_processor_count", None),
        **{name: limits.get(name) for name in ("power_limit_w", "ecc", "mig")},
    }


def _cuda_name(identity: dict[str, Any]) -> str:
    """``NVIDIA H100 80GB HBM3 (79 GiB, 700 W)``; a power limit that NVML does not tell is left out."""
    watts, slices = (
        identity["power_limit_w"],
        "MIG" if identity["mig"] and "MIG" not in identity["model"] else None,
    )
    limits = [f"{identity['memory_gib']:.0f} GiB", watts and f"{watts} W", slices]
    return f"{identity['model']} ({', '.join(filter(None, limits))})"
