"""Times a round of calls: device events on CUDA, the monotonic clock elsewhere; caches warm or flushed, with launches
or without."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from src.devices.device import Device
from src.timers.blocked import BlockedTimer, Call

__all__ = ["Call", "RoundTimer", "cache_flusher"]

_UNKNOWN_CACHE_MIB = 128.0
_SLOW_S = 1.0  # a call that takes longer is not called again to find that out
_APART_ROUND_WALL = 2.0  # times min_round_ms by the wall, at most, for a round of calls timed each by itself


class RoundTimer:
    """Times calls back to back.

    With `cold`, the caches are flushed before each call, outside of the timed part: a layer of a larger model
    finds none of its weights in the cache, since the rest of the model was read in between. Without `launches`, on
    CUDA, the device waits for no launch within a call (`src.timers.blocked`): in a model the host launches a
    layer while the device still computes those before it.
    """

    def __init__(self, device: Device, *, cold: bool = False, launches: bool = True) -> None:
        self.device, self.cold = device, cold
        self.called = 0  # calls that were timed so far
        cuda = device.kind == "cuda"
        if cold:
            self._flush = cache_flusher(device)
        self.blocked = BlockedTimer(self._flush if cold else None) if cuda and not launches else None
        if self.blocked:
            self._time = self._cuda_blocked
        elif cold:
            self._time = self._cuda_cold if cuda else self._host_cold
        else:
            self._time = self._cuda if cuda else self._host

    @property
    def launches(self) -> bool:
        """Whether waiting for the host is in the times, as far as there is any."""
        return self.blocked is None

    def late_calls(self, call: Call) -> int:
        """Of the calls timed without launches: those whose launches the device waited for all the same."""
        return self.blocked.late[call] if self.blocked else 0

    def ms_per_call(self, call: Call, calls: int) -> float:
        """Milliseconds per call, over `calls` calls back to back."""
        self.called += calls
        return self._time(call, calls) / calls

    def calls_for(self, call: Call, min_round_ms: float) -> int:
        """How many calls make a round at least `min_round_ms` long; fewer where much time goes between them."""
        started, taken = time.perf_counter(), [self.ms_per_call(call, 1)]
        while len(taken) < 3 and time.perf_counter() - started < _SLOW_S:
            taken.append(self.ms_per_call(call, 1))
        quickest, wall_ms = min(taken), (time.perf_counter() - started) * 1e3 / len(taken)
        calls = math.ceil(min_round_ms / max(quickest, 1e-4))
        if self.cold or self.blocked:
            calls = min(calls, math.ceil(_APART_ROUND_WALL * min_round_ms / max(wall_ms, 1e-4)))
        return max(1, calls)

    def _host(self, call: Call, calls: int) -> float:
        started = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - started) / 1e6

    def _host_cold(self, call: Call, calls: int) -> float:
        total_ns = 0
        for _ in range(calls):
            self._flush()
            started = time.perf_counter_ns()
            call()
            total_ns += time.perf_counter_ns() - started
        return total_ns / 1e6

    def _cuda(self, call: Call, calls: int) -> float:
        start, end = _events()
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            torch.compiler.cudagraph_mark_step_begin()
            call()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))

    def _cuda_cold(self, call: Call, calls: int) -> float:
        """A whole model after a flush; its launches count but for those that the flush hides."""
        events = [_events() for _ in range(calls)]
        torch.cuda.synchronize()
        for start, end in events:
            torch.compiler.cudagraph_mark_step_begin()
            self._flush()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return sum(float(start.elapsed_time(end)) for start, end in events)

    def _cuda_blocked(self, call: Call, calls: int) -> float:
        assert self.blocked is not None
        return sum(taken.device_ms for taken in self.blocked.take(call, calls))


def cache_flusher(device: Device) -> Callable[[], Any]:
    """A function that replaces the content of the device's last-level cache by that of a buffer twice its size."""
    size_mib = 2 * (device.cache_mib or _UNKNOWN_CACHE_MIB)
    buffer = torch.zeros(int(size_mib * 2**20) // 4, dtype=torch.int32, device=device.torch)
    if device.kind == "cuda":
        largest = buffer[0].clone()
        return lambda: torch.amax(
            buffer, 0, out=largest
        )  # reads: what it wrote would have to be written back later
    return lambda: buffer.add_(1)  # reads and writes: plain stores may bypass a CPU's caches


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
