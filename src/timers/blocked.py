"""The device's own time of a call on CUDA: it is kept busy until the host has launched all of the call.

nvbench calls this a blocking kernel. A CUDA graph would do as well and gives the same within a few percent
(docs/measurement.md says why it is not used).
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from src.timers.spin import cycles_per_ms, spin

Call = Callable[[], Any]

_FIRST_MS = 0.5  # of spinning, before anything is known of the host
_SHORTEST_MS = 0.05
_LONGEST_MS = 500.0
_MARGIN = 1.5  # of spinning over the host's time
_ATTEMPTS = 4  # at one call
_REMEMBERED = 16  # host times of a callable
_GIVEN_UP = 2  # calls in a row that could not be launched ahead


@dataclass(frozen=True)
class Taken:
    """One call: ms on the device between its first and its last kernel, and ms until the host had launched it.

    `ahead` says whether the host had launched everything before the device began: only then is `device_ms` free of
    waiting for the host, and `host_ms` of waiting for the device.
    """

    device_ms: float
    host_ms: float
    ahead: bool


class BlockedTimer:
    """Times calls with the device kept busy by a spin kernel until the host has launched them.

    The spin is half as long again as the host took for earlier calls. Whether it was long enough is checked at
    every call: when the host has launched the last kernel, the event before the first one must not have happened.
    Where it has, the call is repeated behind a longer spin. A call that does not succeed (it waits for the device
    itself, or has more kernels than the launch queue holds, about 1,024) counts as it is, in `late`; after the
    second in a row none is repeated any more. How long a spin really lasts is measured at every call, for the
    device's clock may rise once it has work.
    """

    def __init__(self, flush: Call | None = None, attempts: int = _ATTEMPTS) -> None:
        """Args: flush: sent to the device before each call, outside of the timed part; attempts: at one call."""
        self.late: Counter[Call] = Counter()
        self._flush, self._attempts = flush, attempts
        self._cycles_per_ms = cycles_per_ms(repetitions=3)
        self._host_ms: dict[Call, deque[float]] = {}
        self._failed: Counter[Call] = Counter()  # in a row

    def expect(self, call: Call, host_ms: float) -> None:
        """Tell how long the host takes to launch a call, where that is known."""
        self._host_ms.setdefault(call, deque(maxlen=_REMEMBERED)).append(host_ms)

    def take(self, call: Call, calls: int) -> list[Taken]:
        """Time so many calls, each by itself: of several at once the launch queue might not hold the kernels."""
        torch.cuda.synchronize()
        return [self._one(call) for _ in range(calls)]

    def _one(self, call: Call) -> Taken:
        spin_ms = self._spin_ms()
        for left in reversed(range(1 if self._failed[call] >= _GIVEN_UP else self._attempts)):
            taken = self._attempt(call, spin_ms)
            if taken.ahead:
                self._failed[call] = 0
                self.expect(call, taken.host_ms)
                return taken
            if left:
                spin_ms = min(_LONGEST_MS, max(2 * spin_ms, _MARGIN * taken.host_ms))
        self._failed[call] += 1
        self.late[call] += 1
        return taken

    def _attempt(self, call: Call, spin_ms: float) -> Taken:
        before, start, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        cycles = spin_ms * self._cycles_per_ms
        torch.compiler.cudagraph_mark_step_begin()
        if self._flush is not None:
            self._flush()
        before.record()
        spin(cycles)
        start.record()
        began = time.perf_counter()
        call()
        host_ms = (time.perf_counter() - began) * 1e3
        end.record()
        ahead = not start.query()
        torch.cuda.synchronize()
        self._cycles_per_ms = max(self._cycles_per_ms, cycles / max(before.elapsed_time(start), 1e-3))
        return Taken(float(start.elapsed_time(end)), host_ms, ahead)

    def _spin_ms(self) -> float:
        """Long enough for the slowest of the callables, so that all of them are timed behind the same spin."""
        known = [_typical(times) for times in self._host_ms.values()]
        return min(_LONGEST_MS, max(_SHORTEST_MS, _MARGIN * max(known))) if known else _FIRST_MS


def _typical(times: deque[float]) -> float:
    """The longest but for a single stall."""
    return sorted(times)[max(0, len(times) - 2)]
