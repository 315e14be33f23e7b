"""Energy per call from the device's own counter: in blocks at the power cap, or in a pass after the timing.

The counter covers the whole device, idle power among it, and steps some ten times a second: what is read is up to one
step old. So a span begins and ends where the counter was seen to step, and the calls in between are counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.devices.device import Device
from src.devices.monitor import Monitor
from src.timers.steps import mark_step
from src.timers.timer import Call

STEP_S = 0.1  # of the counter
_ERROR = 0.02  # a window lasts until its own is below
_LONGEST_S = 1.1 * STEP_S / _ERROR  # of a window that asks for less


@dataclass(frozen=True)
class Spent:
    """What the device drew over so many calls."""

    joules: float
    calls: int
    seconds: float
    unsure_s: float  # how much longer or shorter the span may have been that the counter tells of

    @property
    def per_call_j(self) -> float:
        """Joules per call."""
        return self.joules / self.calls

    @property
    def error(self) -> float:
        """Relative, at most: of one span; those of several have chance ends and their mean less."""
        return self.unsure_s / self.seconds

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            self.joules + other.joules,
            self.calls + other.calls,
            self.seconds + other.seconds,
            self.unsure_s + other.unsure_s,
        )


@dataclass
class Meter:
    """Reads the counter between rounds, and keeps where it stepped: ``(seconds, joules, calls until then)``."""

    monitor: Monitor
    calls: int = 0
    _read: list[tuple[float, float, int]] = field(default_factory=list)  # the first reading, and the last
    _steps: list[tuple[float, float, int]] = field(default_factory=list)
    _apart_s: float = 0.0  # at most, between two readings

    def read(self, calls: int = 0) -> None:
        """Read the counter after so many calls more; the device has nothing left to do."""
        joules = self.monitor.energy_j()
        self.calls += calls
        if joules is None:
            return
        now = (time.perf_counter(), joules, self.calls)
        if self._read:
            self._apart_s = max(self._apart_s, now[0] - self._read[-1][0])
            if joules != self._read[-1][1]:
                self._steps.append(now)
        self._read = [*self._read[:1], now]

    def spent(self) -> Spent | None:
        """Between the first step seen and the last, or over all where that is surer; None: it did not step."""
        if not self._steps:
            return None
        spans = [(self._steps, min(self._apart_s, STEP_S)), (self._read, STEP_S)]
        found = [_between(readings, unsure_s) for readings, unsure_s in spans]
        return min((each for each in found if each), key=lambda each: each.error, default=None)


def _between(readings: Sequence[tuple[float, float, int]], unsure_s: float) -> Spent | None:
    (began_s, began_j, before), (ended_s, ended_j, after) = readings[0], readings[-1]
    if after == before:
        return None
    return Spent(ended_j - began_j, after - before, ended_s - began_s, unsure_s)


def energy_per_call(
    calls: Sequence[Call], calls_per_round: Sequence[int], device: Device, monitor: Monitor, window_s: float
) -> list[Spent]:
    """Joules of each callable, over two windows each in the order A B B A.

    Args:
        calls_per_round: how many calls of each go between two synchronizations.
        window_s: seconds per window; it lasts longer, up to 5.5 s, until its ends make less than 2 % of it.

    Returns:
        What was spent, in the order of `calls`; empty where there is no window, or no counter that steps.
    """
    if window_s <= 0 or monitor.energy_j() is None:
        return []
    found: list[Spent | None] = [None] * len(calls)
    for index in [*range(len(calls)), *reversed(range(len(calls)))]:
        window = _window(calls[index], calls_per_round[index], device, monitor, window_s)
        if window is None:
            return []
        before = found[index]
        found[index] = before + window if before else window
    return [each for each in found if each]


def _window(call: Call, calls: int, device: Device, monitor: Monitor, window_s: float) -> Spent | None:
    device.synchronize()
    meter, started = Meter(monitor), time.perf_counter()
    meter.read()
    while True:
        for _ in range(calls):
            mark_step(device)
            call()
        device.synchronize()
        meter.read(calls)
        lasted_s, spent = time.perf_counter() - started, meter.spent()
        enough = spent is not None and spent.error < _ERROR
        if lasted_s >= window_s and (
            enough or (lasted_s > _LONGEST_S and (spent or lasted_s > 2 * window_s))
        ):
            return spent
