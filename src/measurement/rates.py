"""How fast a device copies and multiplies: what is timed, and the search for the size that goes best.

Sizes are tried upward, since no one size is best everywhere. A size is timed over several windows after a warm-up;
its rate is the median window, and the best size's rate is the answer. A copy counts what is read and what is
written: 2n for n bytes.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from src.devices.device import Device

_WINDOWS = 5
_WINDOW_S = 0.03  # a window lasts at least this long
_PROBES = (64, 128, 256)  # small enough for a naive kernel: they tell what larger matmuls take
_SIZES = {"cpu": (512, 1024, 2048, 4096, 8192), "cuda": (2048, 4096, 8192, 16384)}
_CACHES = (4, 8)  # a copied buffer is so many last-level caches
_LEAST_CACHE_MIB = 64.0  # that a copied buffer is reckoned with
_RANDOM = 2**20  # random numbers or bytes drawn; larger operands repeat them
_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError)  # how torch says that it has no such kernel

Call = Callable[[], Any]


@dataclass(frozen=True)
class Rate:
    """One rate: how its call is made at a size, and what a call counts."""

    unit: str
    make: Callable[[int, Device], Call]
    amount: Callable[[int], float]  # size -> GB or tera-operations of one call
    shape: Callable[[int], list[int]]
    copies: bool = False


def best_rate(rate: Rate, device: Device, budget_s: float) -> dict[str, Any]:
    """Try sizes upward while they fit the time and the memory.

    Returns:
        ``value`` of the best size in ``unit``, its ``shape``, the ``windows`` and their ``spread`` (range over
        median), the rates of the sizes ``tried``, and what ``ended`` it; or the ``unit``, the ``reason`` for none,
        and whether torch ``refused``.
    """
    deadline = time.perf_counter() + budget_s
    best: dict[str, Any] = {}
    tried: dict[str, float] = {}
    ended, refused, call_s, counted = "all sizes tried", False, 0.0, 1.0
    for size in _sizes(rate, device):
        amount, probe = rate.amount(size), not rate.copies and size in _PROBES
        needed_s = _cost_s(call_s * amount / counted, probe) if call_s else 0.0
        left_s = max(0.0, deadline - time.perf_counter())
        if needed_s > left_s:
            ended = f"{rate.shape(size)} would take about {needed_s:.2g} s, {left_s:.2g} s are left"
            break
        try:
            call_s, windows_s = _timed(rate.make(size, device), 0 if probe else _WINDOWS, device)
        except _REFUSALS as error:
            ended = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
            refused = True
            break
        counted = amount
        if probe:
            continue
        rates = [float(f"{amount / seconds:.5g}") for seconds in windows_s]
        tried[str(size)] = value = statistics.median(rates)
        if value > best.get("value", 0.0):
            spread = round((max(rates) - min(rates)) / value, 4)
            best = {"value": value, "shape": rate.shape(size), "windows": rates, "spread": spread}
    if not best:
        return {"unit": rate.unit, "reason": ended, "refused": refused}
    return best | {"unit": rate.unit, "tried": tried, "ended": ended}


def _sizes(rate: Rate, device: Device) -> list[int]:
    """Matmul sides, or bytes to copy: several last-level caches, as far as a sixteenth of the memory goes."""
    if not rate.copies:
        return [*_PROBES, *_SIZES[device.kind]]
    cache = int(max(device.cache_mib or 0.0, _LEAST_CACHE_MIB) * 2**20)
    most = int(device.memory_gib * 2**30 / 16)
    return sorted({min(most, factor * cache) // 8 * 8 for factor in _CACHES})


# ---- timing


def _cost_s(call_s: float, probe: bool) -> float:
    """What timing a size takes: four calls, and where it counts a warm-up window and the windows."""
    return 4 * call_s + (0.0 if probe else (_WINDOWS + 1) * max(_WINDOW_S, call_s))


def _timed(call: Call, windows: int, device: Device) -> tuple[float, list[float]]:
    """Seconds of the quickest single call, and seconds per call of each window after one that warms up."""
    call()
    call_s = min(_window_s(call, 1, device) for _ in range(3))  # from a stalled one nothing follows
    if not windows:
        return call_s, []
    warm_s = _window_s(call, _calls(call_s), device)
    return call_s, [_window_s(call, _calls(warm_s), device) for _ in range(windows)]


def _calls(call_s: float) -> int:
    """How many calls fill a window."""
    return math.ceil(_WINDOW_S / max(call_s, 1e-7))


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
    out = torch.empty(size, size, dtype=torch.bfloat16, device=device.torch)
    one = torch.ones((), device=device.torch)
    return partial(
        torch._scaled_mm, a, b, scale_a=one, scale_b=one, out_dtype=out.dtype, use_fast_accum=True, out=out
    )


def _operands(dtype: torch.dtype, size: int, device: Device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two square matrices laid out as a Linear has them: activations by rows, the weight transposed."""
    return _filled((size, size), dtype, device), _filled((size, size), dtype, device).t()


def _filled(shape: tuple[int, ...], dtype: torch.dtype, device: Device) -> torch.Tensor:
    """Random numbers (integers of all bits) of a generator of their own: the run's seed sees nothing of it."""
    generator = torch.Generator(device.torch).manual_seed(0)
    size = math.prod(shape) * dtype.itemsize
    if dtype.is_floating_point:
        drawn = torch.randn(_RANDOM, generator=generator, device=device.torch).to(dtype).view(torch.uint8)
    else:
        drawn = torch.empty(_RANDOM, dtype=torch.uint8, device=device.torch).random_(generator=generator)
    return drawn.repeat(-(-size // drawn.numel()))[:size].view(dtype).view(shape)


def _square(size: int) -> list[int]:
    return [size, size, size]


def _tera_operations(size: int) -> float:
    return 2 * size**3 / 1e12


def _copied_gb(size: int) -> float:
    return 2 * size / 1e9


RATES = {
    "copy_gb_s": Rate("GB/s", _copy, _copied_gb, lambda size: [size], copies=True),
    "bfloat16_tflop_s": Rate("TFLOP/s", partial(_dense, torch.bfloat16), _tera_operations, _square),
    "int8_top_s": Rate("TOP/s", _int8, _tera_operations, _square),
    "float8_e4m3_tflop_s": Rate("TFLOP/s", _float8, _tera_operations, _square),
    "float32_tflop_s": Rate("TFLOP/s", partial(_dense, torch.float32), _tera_operations, _square),
    "float16_tflop_s": Rate("TFLOP/s", partial(_dense, torch.float16), _tera_operations, _square),
}
