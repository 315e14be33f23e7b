"""Energy per call from the device's own counter, in a pass of its own after the timing."""

import time
from collections.abc import Sequence

from src.devices.device import Device
from src.devices.monitor import Monitor
from src.timers.steps import mark_step
from src.timers.timer import Call


def energy_per_call_j(
    calls: Sequence[Call], calls_per_round: Sequence[int], device: Device, monitor: Monitor, window_s: float
) -> list[float]:
    """Joules per call of each callable, over two windows each in the order A B B A.

    The counter covers the whole device, idle power among it, and steps some ten times a second: the longer the
    windows, the better.

    Args:
        calls: what is called.
        calls_per_round: how many calls of each go between two synchronizations.
        device: what they run on.
        monitor: reads the counter.
        window_s: seconds per window, at least one round.

    Returns:
        Joules, in the order of `calls`; empty where there is no counter or no window.
    """
    if window_s <= 0 or monitor.energy_j() is None:
        return []
    used_j, made = [0.0] * len(calls), [0] * len(calls)
    for index in [*range(len(calls)), *reversed(range(len(calls)))]:
        device.synchronize()
        before_j, started = monitor.energy_j() or 0.0, time.perf_counter()
        while time.perf_counter() - started < window_s:
            for _ in range(calls_per_round[index]):
                mark_step(device)
                calls[index]()
            device.synchronize()
            made[index] += calls_per_round[index]
        used_j[index] += (monitor.energy_j() or 0.0) - before_j
    return [joules / count for joules, count in zip(used_j, made, strict=True)]
