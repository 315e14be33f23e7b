"""What the device itself reaches, copying and multiplying: measured once per device, never looked up."""

import hashlib
import json
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from src.devices.device import Device
from src.devices.load import cpu_load
from src.devices.monitor import Pids, open_monitor
from src.measurement.rates import RATES, best_rate
from src.processes.children import spawning
from src.records.environment import counted_variables, variables
from src.records.locks import locked
from src.records.record import write_json

SCHEMA_VERSION = 3
BUDGET_S = 6.0  # of all ceilings together
_HANG_S = 90.0  # what measuring in a process of its own may take, its imports included
_LOCK_S = 120.0  # how long another process may take to measure; past it this one measures too


def device_ceilings(device: Device, folder: Path, idle: Pids = tuple) -> dict[str, Any]:
    """The ceilings of this device: from the folder, or measured now and kept there.

    What was measured while other processes kept the CPU busy or were on the GPU, or while that slowed itself down, is
    marked ``crowded`` and not kept. Two processes at once measure once: the second waits for the first.

    Args:
        device: an open one, its threads fixed, with nothing else on it.
        folder: of the cached files; made if it is not there.
        idle: ids of processes that hold the device and have no work for it now.

    Returns:
        What identifies the device, ``entries`` by name (value, unit, shape, windows, spread, tried; or a reason),
        ``crowded``, and ``cached``: whether it was measured earlier. No entries, and a reason, if measuring died.
    """
    identity = _identity(device)
    path = folder / f"{_slug(identity)}.json"
    with _alone(path):
        found = _read(path, identity)
        if found is not None:
            return found | {"cached": True}
        measured = identity | _apart(device, idle)
        if measured["entries"] and not measured["crowded"]:
            write_json(path, measured)
    return measured | {"cached": False}


def cached_ceilings(device: Device, folder: Path) -> dict[str, Any] | None:
    """The ceilings of this device that an earlier run left in the folder; None: it left none."""
    identity = _identity(device)
    return _read(folder / f"{_slug(identity)}.json", identity)


@torch.no_grad()
def measure_ceilings(device: Device, budget_s: float = BUDGET_S, idle: Pids = tuple) -> dict[str, Any]:
    """Measure every ceiling, within about `budget_s` seconds together; frees what it took."""
    started = time.perf_counter()
    monitor = open_monitor(device, idle=idle)
    doubts = {*monitor.others()}
    if device.threads is not None:
        torch.set_num_threads(device.threads)
    entries: dict[str, Any] = {}
    with cpu_load() as load:
        for left, (name, rate) in zip(range(len(RATES), 0, -1), RATES.items(), strict=True):
            share_s = (budget_s - (time.perf_counter() - started)) / left
            entries[name] = best_rate(rate, device, share_s)
            doubts.update(monitor.read().slowdowns)
            _free(device)
    doubts.update(monitor.others())
    return {
        "entries": entries,
        "crowded": bool(doubts) or (device.threads is not None and load.crowds(device.threads)),
        "doubts": sorted(doubts),
        "foreign_cpus": round(load.foreign_cpus, 3),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "measured_at": datetime.now(UTC).isoformat(),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _apart(device: Device, idle: Pids) -> dict[str, Any]:
    """Measure where it leaves no trace in the run.

    On a CPU in a process of its own: buffers of this size change how the C library allocates from then on, and the
    kernels' code would count in the run's memory. On CUDA in this one: a device may allow one process only.
    """
    if device.kind == "cuda":
        return measure_ceilings(device, idle=idle)
    with spawning():
        started = multiprocessing.get_context("spawn").Pool(1)
    with started as pool:
        try:
            return pool.apply_async(measure_ceilings, (device, BUDGET_S)).get(_HANG_S)
        except multiprocessing.TimeoutError:
            reason = f"the process that measured them died or was not done after {_HANG_S:g} s"
            return {"entries": {}, "crowded": False, "reason": reason}


def _free(device: Device) -> None:
    """Give back what was taken, the libraries' workspaces among it: no peak of the run may hold it."""
    if device.kind == "cuda":
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


# ---- the cached file


def _identity(device: Device) -> dict[str, Any]:
    """What a cached file must agree with; the host, since an identity tells neither clocks nor memory.

    The variables that can change a number, as NVIDIA_TF32_OVERRIDE and ONEDNN_DEFAULT_FPMATH_MODE do a matmul's.
    """
    told = variables(os.environ)
    return {
        "schema_version": SCHEMA_VERSION,
        "device": device.name,
        "identity": device.identity,
        "host": platform.node(),
        "threads": device.threads,
        "instruction_set": device.instruction_set,
        "torch": torch.__version__,
        "float32_precision": torch.get_float32_matmul_precision(),
        "variables": {name: told[name] for name in counted_variables(os.environ)},
    }


def _slug(identity: dict[str, Any]) -> str:
    text = "-".join(
        str(value)
        for name, value in identity.items()
        if value is not None and name not in ("identity", "variables")
    )
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9.]+', '-', text.lower()).strip('-')[:180]}-{digest}"


def _read(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The cached file, if it can be read and is of this device; any other is measured again."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sound = all("reason" in entry or entry["value"] > 0 for entry in found["entries"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    same = {name: found.get(name) for name in identity} == identity
    return found if sound and same and set(found["entries"]) == set(RATES) else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from measuring the same device meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with suppress(OSError):  # a holder that hangs, a file that cannot be opened: go on
            held.enter_context(locked(path.with_suffix(".lock"), _LOCK_S))
        yield
