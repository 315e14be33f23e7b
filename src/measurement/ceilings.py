"""What the device itself reaches: copy bandwidth and dense matmul rates. Measured, never looked up.

Sizes are tried upward, since no one size is best everywhere. A size is timed over several windows after a warm-up;
its rate is the median window, and the ceiling is the best size's. The bandwidth counts what is read and what is
written, so a copy of n bytes counts 2n.
"""

import json
import math
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from src.measurement.load import cpu_load
from src.records.record import write_json
from src.workloads.device import Device
from src.workloads.hardware import last_level_cache_bytes

SCHEMA_VERSION = 1
BUDGET_S = 6.0  # of all ceilings together
_WINDOWS = 5
_WINDOW_S = 0.03  # a window lasts at least this long
_HANG_S = 90.0  # what measuring in a process of its own may take, its imports included
_LOCK_S = 120.0  # how long another process may take to measure; past it this one measures too
_PROBES = (
    64,
    128,
    256,
)  # matmuls so small that even a naive kernel ends soon: they tell what larger ones take
_SIZES = {"cpu": (512, 1024, 2048, 4096, 8192), "cuda": (1024, 2048, 4096, 8192, 16384)}
_CACHES = 4  # a copied buffer is at least this many last-level caches
_UNKNOWN_CACHE_BYTES = 64 * 2**20
_RANDOM = 2**20  # random numbers drawn; larger operands repeat them

Call = Callable[[], Any]
Make = Callable[[int, Device], Call]  # size -> what is timed at that size


@dataclass(frozen=True)
class Ceiling:
    """One ceiling: how its call is made, and what a call counts."""

    unit: str
    make: Make
    amount: Callable[[int], float]  # size -> GB or Tera-operations of one call
    shape: Callable[[int], list[int]]
    copies: bool = False


def device_ceilings(device: Device, folder: Path) -> dict[str, Any]:
    """The ceilings of this device: from the folder, or measured now and kept there.

    What was measured while other processes kept the CPU busy is marked ``crowded`` and not kept. Two processes at
    once measure once: the second waits for the first.

    Args:
        device: an open one, its threads fixed, with nothing else on it.
        folder: of the cached files; made if it is not there.

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
        measured = identity | _apart(device)
        if measured["entries"] and not measured["crowded"]:
            write_json(path, measured)
    return measured | {"cached": False}


@torch.no_grad()
def measure_ceilings(device: Device, budget_s: float = BUDGET_S) -> dict[str, Any]:
    """Measure every ceiling, within about `budget_s` seconds together; frees what it took."""
    started = time.perf_counter()
    if device.threads is not None:
        torch.set_num_threads(device.threads)
    entries: dict[str, Any] = {}
    with cpu_load() as load:
        for left, (name, ceiling) in zip(range(len(CEILINGS), 0, -1), CEILINGS.items(), strict=True):
            share_s = (budget_s - (time.perf_counter() - started)) / left
            entries[name] = _climb(ceiling, device, share_s)
            _free(device)
    return {
        "entries": entries,
        "crowded": device.threads is not None and load.crowds(device.threads),
        "foreign_cpus": round(load.foreign_cpus, 3),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "measured_at": datetime.now(UTC).isoformat(),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _apart(device: Device) -> dict[str, Any]:
    """Measure where it leaves no trace in the run.

    On a CPU in a process of its own: buffers of this size change how the C library allocates from then on, and the
    kernels' code would count in the run's memory. On CUDA in this one: a device may allow one process only.
    """
    if device.kind == "cuda":
        return measure_ceilings(device)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(measure_ceilings, (device,)).get(_HANG_S)
        except multiprocessing.TimeoutError:
            reason = f"the process that measured them died or was not done after {_HANG_S:g} s"
            return {"entries": {}, "crowded": False, "reason": reason}


def _climb(ceiling: Ceiling, device: Device, budget_s: float) -> dict[str, Any]:
    """Try sizes upward while they fit the time and the memory; the best one's entry, or the reason for none.

    ``spread`` is the range of the windows over their median.
    """
    deadline = time.perf_counter() + budget_s
    best: dict[str, Any] = {}
    tried: dict[str, float] = {}
    ended = ""
    last: tuple[float, float] | None = None  # seconds of a call, and what it counted
    for size in _sizes(ceiling, device):
        needed_s = _cost_s(last[0] * ceiling.amount(size) / last[1]) if last else 0.0
        if time.perf_counter() + needed_s > deadline:
            ended = f"{ceiling.shape(size)} would take about {needed_s:.2g} s, its share is {budget_s:.2g} s"
            break
        try:
            call = ceiling.make(size, device)
            call()
            call_s = min(_window_s(call, 1, device) for _ in range(3))  # of a stalled one nothing follows
            last = (call_s, ceiling.amount(size))
            if size in _PROBES:
                continue
            rates = [float(f"{ceiling.amount(size) / s:.5g}") for s in _windows_s(call, call_s, device)]
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            ended = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            )
            break
        tried[str(size)] = value = statistics.median(rates)
        if value > best.get("value", 0.0):
            spread = round((max(rates) - min(rates)) / value, 4)
            best = {"value": value, "shape": ceiling.shape(size), "windows": rates, "spread": spread}
    if not best:
        return {"unit": ceiling.unit, "reason": ended}
    return best | {"unit": ceiling.unit, "tried": tried, "ended": ended or "all sizes tried"}


def _sizes(ceiling: Ceiling, device: Device) -> list[int]:
    """Matmul sides, or bytes to copy: several last-level caches, as far as a sixteenth of the memory goes."""
    if not ceiling.copies:
        return [*_PROBES, *_SIZES[device.kind]]
    if device.kind == "cuda":
        cache = max(torch.cuda.get_device_properties(0).L2_cache_size, _UNKNOWN_CACHE_BYTES)
    else:
        cache = last_level_cache_bytes() or _UNKNOWN_CACHE_BYTES
    most = int(device.memory_gib * 2**30 / 16)
    return sorted({min(most, factor * cache) // 8 * 8 for factor in (_CACHES, 2 * _CACHES)})


# ---- timing


def _cost_s(call_s: float) -> float:
    """What measuring a size takes: four calls, a warm-up window, the windows."""
    return 4 * call_s + (_WINDOWS + 1) * max(_WINDOW_S, call_s)


def _windows_s(call: Call, call_s: float, device: Device) -> list[float]:
    """Seconds per call of each window, after one that warms up."""
    calls = max(1, math.ceil(_WINDOW_S / max(call_s, 1e-7)))
    calls = max(1, math.ceil(_WINDOW_S / max(_window_s(call, calls, device), 1e-7)))
    return [_window_s(call, calls, device) for _ in range(_WINDOWS)]


def _window_s(call: Call, calls: int, device: Device) -> float:
    """Seconds per call over `calls` calls back to back: device events on CUDA, else the monotonic clock."""
    if device.kind != "cuda":
        started = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - started) / 1e9 / calls
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


# ---- what is timed; random numbers, for zeros draw less power and clock higher


def _copy(size: int, device: Device) -> Call:
    source = _filled((size // 8,), torch.int64, device)
    return partial(torch.empty_like(source).copy_, source)


def _dense(dtype: torch.dtype, size: int, device: Device) -> Call:
    a, b = _operands(dtype, size, device)
    return partial(torch.mm, a, b, out=torch.empty(size, size, dtype=dtype, device=device.torch))


def _int8(size: int, device: Device) -> Call:
    a, b = _operands(torch.int8, size, device)
    return partial(torch._int_mm, a, b, out=torch.empty(size, size, dtype=torch.int32, device=device.torch))


def _float8(size: int, device: Device) -> Call:
    a, b = _operands(torch.float8_e4m3fn, size, device)
    one = torch.ones((), device=device.torch)
    return partial(
        torch._scaled_mm, a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _operands(dtype: torch.dtype, size: int, device: Device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two square matrices laid out as a Linear has them: activations by rows, the weight transposed."""
    return _filled((size, size), dtype, device), _filled((size, size), dtype, device).t()


def _filled(shape: tuple[int, ...], dtype: torch.dtype, device: Device) -> torch.Tensor:
    """Random numbers of a generator of their own: the run's seed sees nothing of it."""
    generator = torch.Generator(device.torch).manual_seed(0)
    count = math.prod(shape)
    drawn = torch.empty(
        min(count, _RANDOM), dtype=torch.float32 if dtype.is_floating_point else dtype, device=device.torch
    )
    drawn = (
        drawn.normal_(generator=generator) if dtype.is_floating_point else drawn.random_(generator=generator)
    )
    repeated = drawn.to(dtype).view(torch.uint8).repeat(-(-count // drawn.numel()))
    return repeated[: count * dtype.itemsize].view(dtype).view(shape)


def _square(size: int) -> list[int]:
    return [size, size, size]


def _tera_operations(size: int) -> float:
    return 2 * size**3 / 1e12


def _copied_gb(size: int) -> float:
    return 2 * size / 1e9


CEILINGS = {
    "copy_gb_s": Ceiling("GB/s", _copy, _copied_gb, lambda size: [size], copies=True),
    "bfloat16_tflop_s": Ceiling("TFLOP/s", partial(_dense, torch.bfloat16), _tera_operations, _square),
    "int8_top_s": Ceiling("TOP/s", _int8, _tera_operations, _square),
    "float8_e4m3_tflop_s": Ceiling("TFLOP/s", _float8, _tera_operations, _square),
    "float32_tflop_s": Ceiling("TFLOP/s", partial(_dense, torch.float32), _tera_operations, _square),
    "float16_tflop_s": Ceiling("TFLOP/s", partial(_dense, torch.float16), _tera_operations, _square),
}


def _free(device: Device) -> None:
    """Give back what was taken, the libraries' workspaces among it: no peak of the run may hold it."""
    if device.kind == "cuda":
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


# ---- the cached file


def _identity(device: Device) -> dict[str, Any]:
    """What a cached file must agree with; the host, since a device's name tells neither its clocks nor its memory."""
    return {
        "schema_version": SCHEMA_VERSION,
        "device": device.name,
        "host": platform.node(),
        "threads": device.threads,
        "instruction_set": device.instruction_set,
        "torch": torch.__version__,
        "float32_precision": torch.get_float32_matmul_precision(),
    }


def _slug(identity: dict[str, Any]) -> str:
    text = "-".join(str(value) for value in identity.values() if value is not None)
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:200]


def _read(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The cached file, if it can be read and is of this device; any other is measured again."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sound = all("reason" in entry or entry["value"] > 0 for entry in found["entries"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    same = {name: found.get(name) for name in identity} == identity
    return found if sound and same and set(found["entries"]) == set(CEILINGS) else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from measuring the same device meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    with suppress(Timeout):  # whoever holds it hangs: measuring beside it is no worse
        lock.acquire(timeout=_LOCK_S)
    try:
        yield
    finally:
        lock.release()
