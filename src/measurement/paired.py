"""The measured loop: rounds of the arms in turn, A B B A, until the ratio is known well enough."""

import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch._dynamo.utils import counters

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Blind, Monitor
from src.measurement.rounds import Other, Pair, Round, Rounds, estimate_speedup, rounds_in_turn
from src.measurement.until_known import CLOCK_FAULTS, UntilKnown, must_retake
from src.statistics.bootstrap import MIN_PAIRS
from src.statistics.stopping import LOOK_GROWTH, StopReason, is_clear
from src.statistics.warmup import warmed_up
from src.timers.timer import Call, RoundTimer


@dataclass(frozen=True)
class Conditions:
    """How arms are timed, and what watches the device meanwhile."""

    cold: bool = False  # the caches are flushed before each call
    launches: bool = True  # what the device waits for the host's launches counts; on a CPU there are none
    # A pair in which the device slowed itself down is retaken.
    monitor: Monitor = field(default_factory=Blind)

    def timer(self, device: Device) -> RoundTimer:
        """A clock for rounds on a device."""
        return RoundTimer(device, cold=self.cold, launches=self.launches)


USUAL = Conditions()


@dataclass
class Arms:
    """All arms with what times and watches them."""

    baseline: Call
    treated: Call
    timer: RoundTimer
    monitor: Monitor
    calls_per_round: tuple[int, ...]  # of the baseline, the treated arm, and the others in their order
    others: tuple[Call, ...] = ()  # further unquantized arms

    def pair(self, index: int) -> Pair:
        """A round of each arm: baseline, treated, others when `index` is even, else the other way round.

        So the treated arm's neighbour is the baseline on one side, the first of the others on the other side.
        """
        arms = [*zip((self.baseline, self.treated, *self.others), self.calls_per_round, strict=True)]
        forward = index % 2 == 0
        taken = [self.round(call, calls) for call, calls in (arms if forward else arms[::-1])]
        baseline, treated, *others = taken if forward else taken[::-1]
        return Pair(baseline, treated, "AB" if forward else "BA", tuple(others))

    def single(self, _: int = 0) -> Pair:
        """A round of the baseline by itself, in both places."""
        taken = self.round(self.baseline, self.calls_per_round[0])
        return Pair(taken, taken, "A")

    def round(self, call: Call, calls: int) -> Round:
        """One round of one arm."""
        return Round(self.timer.ms_per_call(call, calls), self.monitor.read())


def measure_interleaved(
    baseline: Call,
    treated: Call,
    device: Device,
    conf: MeasureConf,
    conditions: Conditions = USUAL,
    *,
    rounds: Rounds | None = None,
    others: Mapping[str, Call] | None = None,
) -> Rounds:
    """Alternate rounds of all arms: warm up until they are steady, then measure until the stop rule says so.

    All must have been called before (compiled, caches filled); gradients must be off around all of it.

    Args:
        baseline: what is called for the baseline's rounds.
        treated: likewise.
        device: what both run on.
        conf: when to stop.
        conditions: how they are timed.
        rounds: filled in while measuring, so that a caller has them whatever happens.
        others: further unquantized arms by name; measuring ends when the ratio to the fastest is known well enough.

    Raises:
        RunEndedError: `failed`, when the clock keeps giving times that cannot be right.
    """
    timer, started, others = conditions.timer(device), time.perf_counter(), others or {}
    calls = tuple(timer.calls_for(call, conf.min_round_ms) for call in (baseline, treated, *others.values()))
    arms = Arms(baseline, treated, timer, conditions.monitor, calls, tuple(others.values()))
    rounds = Rounds() if rounds is None else rounds
    begin(rounds, timer, (calls[0], calls[1]), dict(zip(others, calls[2:], strict=True)))
    rounds.warmup_pairs = warm_up(arms.pair, started + conf.max_warmup_s)
    with disturbances([rounds], timer):
        _until_known(arms, UntilKnown(rounds, conf))
    note_late(rounds, timer, (baseline, treated, *others.values()))
    return rounds


def begin(rounds: Rounds, timer: RoundTimer, calls: tuple[int, int], others: Mapping[str, int]) -> None:
    """Note how rounds are taken: the calls in one of the baseline and the treated arm, and of each other arm."""
    rounds.calls_per_round, rounds.launches = calls, timer.launches
    rounds.cache = "cold" if timer.cold else "warm"
    rounds.others = {name: Other(calls_per_round=each) for name, each in others.items()}


def note_late(rounds: Rounds, timer: RoundTimer, arms: Iterable[Call]) -> None:
    """Note the calls of each arm (baseline, treated, others) that waited for launches which were to be hidden."""
    baseline, treated, *others = map(timer.late_calls, arms)
    rounds.late_calls = (baseline, treated)
    for other, late in zip(rounds.others.values(), others, strict=True):
        other.late_calls = late


@contextmanager
def disturbances(measured: Iterable[Rounds], timer: RoundTimer) -> Iterator[None]:
    """Note the page faults, calls and graphs compiled again of the block in the rounds that are measured there."""
    faults, graphs, called = page_faults(), graphs_compiled(), timer.called
    yield
    found = page_faults() - faults, graphs_compiled() - graphs, timer.called - called
    for rounds in measured:
        rounds.page_faults, rounds.recompiles, rounds.calls = found


def _until_known(arms: Arms, counting: UntilKnown) -> None:
    """Pairs of all arms, until the ratio is known well enough or the budget is spent."""
    started = time.perf_counter()
    while not counting.rounds.stop_reason:
        pair = arms.pair(len(counting.rounds.order))
        counting.take(pair, time.perf_counter() - started)


def measure_alone(
    call: Call,
    device: Device,
    conf: MeasureConf,
    conditions: Conditions = USUAL,
    against: Rounds | None = None,
) -> Rounds:
    """Rounds of one arm by itself, for half the budget: where both arms do not fit in memory together.

    With `against`, the rounds of the unquantized arm that counts, measuring ends as soon as the verdict between them
    and these is clear.

    Returns:
        Rounds whose baseline is this arm; there is no treated one.
    """
    timer, started = conditions.timer(device), time.perf_counter()
    calls = timer.calls_for(call, conf.min_round_ms)
    arms, rounds = Arms(call, call, timer, conditions.monitor, (calls, calls)), Rounds()
    begin(rounds, timer, (calls, calls), {})
    warm_up(arms.single, started + conf.max_warmup_s / 2)
    with disturbances([rounds], timer):
        _until_clear(arms, rounds, conf, against)
    rounds.late_calls = (timer.late_calls(call),) * 2
    return rounds


def _until_clear(arms: Arms, rounds: Rounds, conf: MeasureConf, against: Rounds | None) -> None:
    """Rounds of the baseline until the verdict is clear, or half the budget is spent."""
    started, look = time.perf_counter(), MIN_PAIRS
    while len(rounds.order) < conf.min_pairs or (
        len(rounds.order) < conf.max_pairs and time.perf_counter() - started < conf.budget_s / 2
    ):
        taken = arms.single()
        rounds.seconds = time.perf_counter() - started
        if must_retake(taken, rounds, budget_left=rounds.seconds < conf.budget_s / 2):
            continue
        rounds.count(taken)
        if against is not None and len(rounds.order) >= look:
            look = math.ceil(len(rounds.order) * LOOK_GROWTH)
            estimate = estimate_speedup(rounds_in_turn(against, rounds), conf)
            if is_clear(estimate, conf.margin, conf.clear_width):
                rounds.stop_reason = StopReason.CLEAR
                return
    rounds.stop_reason = StopReason.BUDGET


def graphs_compiled() -> int:
    """Graphs compiled by Dynamo, so far in this process."""
    return int(counters["stats"]["unique_graphs"])


def page_faults() -> int:
    """Minor ones of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def warm_up(pair: Callable[[int], Pair], until_s: float) -> int:
    """Run pairs until all arms are steady or the time is up; returns how many were run.

    The time began with the calls that sized the rounds: where one call takes longer than all of it, they were the
    warm-up.
    """
    series: list[list[float]] = []  # of each pair, the arms' times
    faults = 0
    while time.perf_counter() < until_s and faults < CLOCK_FAULTS:
        taken = pair(len(series))
        if taken.clock_failed:
            faults += 1
            continue
        series.append([arm.ms for arm in taken.arms])
        if all(warmed_up(arm_ms) for arm_ms in np.asarray(series).T):
            break
    return len(series)
