"""The measured loop: rounds of two arms in turn, A B B A, until the ratio is known well enough."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from src.config.schema import MeasureConf
from src.measurement.bootstrap import Array
from src.measurement.statistics import SpeedupEstimate, paired_speedup, unpaired_speedup
from src.measurement.stopping import StopReason, StopRule
from src.measurement.warmup import warmed_up
from src.workloads.device import Device

Call = Callable[[], Any]


@dataclass
class Rounds:
    """What the clock said: ms per call of each round, in the order measured."""

    baseline_ms: list[float] = field(default_factory=list)
    treated_ms: list[float] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # AB: baseline first; BA: treated first
    warmup_pairs: int = 0
    calls_per_round: tuple[int, int] = (1, 1)
    stop_reason: str = ""
    seconds: float = 0.0

    def as_arrays(self) -> tuple[Array, Array]:
        """Baseline and treated, ms per call."""
        return np.asarray(self.baseline_ms), np.asarray(self.treated_ms)


class RoundTimer:
    """Times a round of calls: device events on CUDA, the monotonic clock elsewhere."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._time = self._time_cuda if device.kind == "cuda" else self._time_host

    def ms_per_call(self, call: Call, calls: int) -> float:
        """Milliseconds per call, over `calls` calls back to back."""
        return self._time(call, calls) / calls

    def _time_host(self, call: Call, calls: int) -> float:
        started = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - started) / 1e6

    def _time_cuda(self, call: Call, calls: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            torch.compiler.cudagraph_mark_step_begin()
            call()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))

    def calls_for(self, call: Call, min_round_ms: float) -> int:
        """How many calls make a round at least `min_round_ms` long."""
        quickest = min(self.ms_per_call(call, 1) for _ in range(3))
        return max(1, math.ceil(min_round_ms / max(quickest, 1e-4)))


def measure_interleaved(baseline: Call, treated: Call, device: Device, conf: MeasureConf) -> Rounds:
    """Alternate rounds of both arms: warm up until both are steady, then measure until the stop rule says so.

    Both arms must have been called before (compiled, caches filled); gradients must be off around all of it.
    """
    timer = RoundTimer(device)
    rounds = Rounds(
        calls_per_round=(
            timer.calls_for(baseline, conf.min_round_ms),
            timer.calls_for(treated, conf.min_round_ms),
        )
    )

    def pair(index: int) -> tuple[float, float, str]:
        n_baseline, n_treated = rounds.calls_per_round
        if index % 2 == 0:
            a = timer.ms_per_call(baseline, n_baseline)
            return a, timer.ms_per_call(treated, n_treated), "AB"
        b = timer.ms_per_call(treated, n_treated)
        return timer.ms_per_call(baseline, n_baseline), b, "BA"

    rounds.warmup_pairs = _warm_up(pair, conf.max_warmup_s)
    rule = StopRule(conf.min_pairs, conf.max_pairs, conf.target_ci_width, conf.budget_s)
    started = time.perf_counter()
    look = rule.next_look(0)
    while not rounds.stop_reason:
        a, b, order = pair(len(rounds.order))
        rounds.baseline_ms.append(a)
        rounds.treated_ms.append(b)
        rounds.order.append(order)
        pairs, elapsed_s = len(rounds.order), time.perf_counter() - started
        estimate = None
        if pairs >= look:
            estimate = estimate_speedup(rounds, conf)
            look = rule.next_look(pairs)
        if pairs >= conf.min_pairs:
            rounds.stop_reason = rule.decide(pairs, elapsed_s, estimate) or ""
    rounds.seconds = time.perf_counter() - started
    return rounds


def measure_alone(call: Call, device: Device, conf: MeasureConf) -> list[float]:
    """Rounds of one arm by itself, for half the budget: where both arms do not fit in memory together."""
    timer = RoundTimer(device)
    calls = timer.calls_for(call, conf.min_round_ms)
    _warm_up(lambda _: (timer.ms_per_call(call, calls),) * 2 + ("",), conf.max_warmup_s / 2)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < conf.min_pairs or (
        len(times) < conf.max_pairs and time.perf_counter() - started < conf.budget_s / 2
    ):
        times.append(timer.ms_per_call(call, calls))
    return times


def rounds_in_turn(baseline_ms: list[float], treated_ms: list[float]) -> Rounds:
    """The rounds of two arms that were measured one after the other."""
    return Rounds(baseline_ms, treated_ms, order=[], stop_reason=StopReason.BUDGET)


def estimate_speedup(rounds: Rounds, conf: MeasureConf) -> SpeedupEstimate:
    """The speedup with its interval: paired where rounds were interleaved, else unpaired."""
    baseline, treated = rounds.as_arrays()
    estimator = paired_speedup if rounds.order else unpaired_speedup
    return estimator(baseline, treated, confidence=conf.confidence, samples=conf.bootstrap_samples)


def _warm_up(pair: Callable[[int], tuple[float, float, str]], max_warmup_s: float) -> int:
    """Run pairs until both arms are steady or the time is up; returns how many were run."""
    a_ms: list[float] = []
    b_ms: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < max_warmup_s:
        a, b, _ = pair(len(a_ms))
        a_ms.append(a)
        b_ms.append(b)
        if warmed_up(np.asarray(a_ms)) and warmed_up(np.asarray(b_ms)):
            break
    return len(a_ms)
