"""A slowdown of known length: a wait after each call that remembers how long it really was."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from src.devices.device import Device
from src.statistics.bootstrap import Array, location
from src.timers.spin import cycles_per_ms, spin
from src.timers.timer import Call


class HostDelay:
    """A callable, and a wait of `ms` after each call of it, spun on the host's monotonic clock."""

    def __init__(self, call: Call, ms: float) -> None:
        self._call, self._ns = call, round(ms * 1e6)
        self._taken_ns: list[int] = []

    def __call__(self) -> Any:
        """Call, then wait; what the wait does on the device is inside of the host's."""
        output = self._call()
        started = now = time.perf_counter_ns()
        self.on_device()
        while now - started < self._ns:
            now = time.perf_counter_ns()
        self._taken_ns.append(now - started)
        return output

    def on_device(self) -> None:
        """Nothing on a CPU."""

    def taken_ms(self) -> Array:
        """How long each wait so far really was, in ms."""
        return np.asarray(self._taken_ns) / 1e6

    def per_round_ms(self, rounds: int, calls: int) -> Array:
        """The mean wait per call in each of the last `rounds` rounds of `calls` calls, in ms.

        Raises:
            ValueError: there were not as many calls.
        """
        taken = self.taken_ms()
        if taken.size < rounds * calls:
            raise ValueError(f"{taken.size} delayed calls, must be at least {rounds} rounds of {calls}")
        return np.asarray(taken[-rounds * calls :].reshape(rounds, calls).mean(axis=1))


class CudaDelay(HostDelay):
    """The same wait on the host and, as a spin kernel, on the device.

    Host and device work side by side, and a call lasts as long as the slower of them; a wait of one alone would
    hide in the other's. With both, max(host + d, device + d) = max(host, device) + d in either case. The spin
    kernel lies between two events. It lasts as many cycles as were asked for, which at a power cap take longer than
    the host's wait: what counts is the wait of the side that sets the pace.
    """

    def __init__(self, call: Call, ms: float, cycles_per_ms: float, *, by_host: bool) -> None:
        super().__init__(call, ms)
        self._by_host = by_host
        self._cycles = max(1, round(ms * cycles_per_ms))
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def on_device(self) -> None:
        """Put the spin kernel behind the call."""
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        spin(self._cycles)
        after.record()
        self._events.append((before, after))

    def taken_ms(self) -> Array:
        """By the clock of the side that sets the pace, in ms."""
        torch.cuda.synchronize()
        if self._by_host:
            return super().taken_ms()
        return np.asarray([before.elapsed_time(after) for before, after in self._events])


def delayed(
    calls: Sequence[Call], ms: Sequence[float], device: Device, *, by_host: bool = False
) -> list[HostDelay]:
    """Callables that last so many ms longer on this device.

    Waiting costs some 0.1 us of Python beside the wait itself, so the arm that is not slowed down waits too, for 0.

    Args:
        ms: by how much, each.
        by_host: on CUDA, whether the calls as they are timed wait for the host.
    """
    if device.kind == "cuda":
        cycles = cycles_per_ms()
        return [CudaDelay(call, wait, cycles, by_host=by_host) for call, wait in zip(calls, ms, strict=True)]
    return [HostDelay(call, wait) for call, wait in zip(calls, ms, strict=True)]


def true_speedup(treated_ms: Array, delays_ms: Array) -> float:
    """What a delay makes of the speedup: the delayed arm's rounds without their delays, over those with.

    It comes from the very rounds that are estimated from, so that no reference measured earlier can drift away
    from it; located as the estimate is.

    Args:
        treated_ms: rounds of the delayed arm, ms per call.
        delays_ms: the delay per call in each of them.
    """
    return math.exp(location(np.log((treated_ms - delays_ms) / treated_ms))[0])
