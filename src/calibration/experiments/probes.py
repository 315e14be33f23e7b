"""What the harness itself adds: the cost of its timer, and its rounds against a bare loop."""

import statistics
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import open_monitor
from src.measurement.paired import Arms
from src.statistics.speedup import paired_speedup
from src.timers.timer import Call, RoundTimer

REPETITIONS = 4
_PAIRS = 60  # of the harness in a repetition, and as many rounds of the bare loop
_MANY = 1000  # calls


def timer_cost(device: Device) -> dict[str, float]:
    """What timing costs, with a callable that does nothing, in ns.

    Returns:
        ``per_round_ns``: what a round contains beside its calls. ``per_call_ns``: what each call costs beside
        itself. ``around_round_ns``: what a round costs outside of the timed span. ``clock_step_ns``: the smallest
        step of the host's clock.
    """
    timer, rounds = RoundTimer(device), 200 if device.kind == "cuda" else 2000
    started = time.perf_counter_ns()
    one = [timer.ms_per_call(_nothing, 1) * 1e6 for _ in range(rounds)]
    whole = (time.perf_counter_ns() - started) / rounds
    many = [timer.ms_per_call(_nothing, _MANY) * 1e6 * _MANY for _ in range(50)]
    per_call = (statistics.median(many) - statistics.median(one)) / (_MANY - 1)
    return {
        "per_round_ns": statistics.median(one) - per_call,
        "per_call_ns": per_call,
        "around_round_ns": max(0.0, whole - statistics.median(one)),
        "clock_step_ns": float(_clock_step_ns()),
    }


def against_bare_loop(call: Call, other: Call, device: Device, conf: MeasureConf) -> list[float]:
    """Rounds of `call` as the harness measures them, relative to a bare loop around it; one ratio a repetition.

    A pair of the harness and a round of the bare loop take turns, in either order, so that drift and stalls hit both;
    the ratio is estimated as a speedup is.

    Args:
        other: what stands in the harness' other arm: the same callable, or a copy.
        conf: of the harness; its stop rule is replaced by a fixed number of pairs.
    """
    timer = RoundTimer(device)
    calls = timer.calls_for(call, conf.min_round_ms)
    arms = Arms(call, other, timer, open_monitor(device), (calls, calls))
    ratios = []
    for _ in range(REPETITIONS):
        harness_ms, bare_ms = [], []
        for index in range(_PAIRS):
            if index % 2:
                bare_ms.append(_bare_ms(call, calls, device))
            harness_ms.append(arms.pair(index // 2).baseline.ms)
            if not index % 2:
                bare_ms.append(_bare_ms(call, calls, device))
        ratios.append(paired_speedup(np.array(harness_ms), np.array(bare_ms)).ratio)
    return ratios


def _bare_ms(call: Call, calls: int, device: Device) -> float:
    """Milliseconds per call of a loop between two readings of the clock; nothing of the harness is used."""
    if device.kind == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    if device.kind == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls * 1e3


def _clock_step_ns() -> int:
    readings = [time.perf_counter_ns() for _ in range(10000)]
    return min(
        (after - before for before, after in pairwise(readings) if after > before),
        default=0,
    )


def _nothing() -> Any:
    return None
