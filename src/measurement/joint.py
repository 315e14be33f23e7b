"""Rounds of several treated arms against one baseline: k of them cost k + 1 arms and not 2 k.

Each gets a pair per round: its own time and the baseline's. The order changes from round to round, and each order is
followed by its mirror image, so that what drifts through a round adds to a ratio as often as it takes away.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.config.schema import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Blind, Monitor
from src.measurement.paired import graphs_compiled, must_retake, page_faults, warm_up
from src.measurement.rounds import Pair, Round, Rounds, estimate_speedup
from src.statistics.stopping import StopRule
from src.timers.timer import Call, RoundTimer


def balanced_order(arms: int, index: int) -> list[int]:
    """In which order a round takes the arms: a Latin square's rows by turns, each followed by its mirror image.

    The square is that of Williams (1949): with the mirror images every arm stands in every place, and follows every
    other arm, equally often.
    """
    zigzag = [(step + 1) // 2 if step % 2 else (arms - step // 2) % arms for step in range(arms)]
    row = [(arm + index // 2) % arms for arm in zigzag]
    return row[::-1] if index % 2 else row


@dataclass
class Contender:
    """A treated arm among several, with the rounds that are its own and the end of them."""

    call: Call
    calls: int  # per round
    rounds: Rounds
    conf: MeasureConf
    rule: StopRule = field(init=False)
    look: int = field(init=False)

    def __post_init__(self) -> None:
        conf = self.conf
        self.rule = StopRule(
            conf.min_pairs, conf.max_pairs, conf.target_ci_width, conf.budget_s, conf.margin, conf.clear_width
        )
        self.look = self.rule.next_look(0)

    @property
    def is_done(self) -> bool:
        """Whether its rounds are enough."""
        return bool(self.rounds.stop_reason)

    def take(self, pair: Pair, seconds: float) -> None:
        """Count a pair that took so long, and decide whether it was the last one."""
        rounds = self.rounds
        rounds.seconds += seconds
        if must_retake(pair, rounds, budget_left=rounds.seconds < self.conf.budget_s):
            return
        rounds.count(pair)
        pairs, estimate = len(rounds.order), None
        if pairs >= self.look:
            estimate = estimate_speedup(rounds, self.conf)
            self.look = self.rule.next_look(pairs)
        rounds.stop_reason = self.rule.decide(pairs, rounds.seconds, estimate) or ""


@dataclass
class _Joint:
    """The baseline and those that are not done yet."""

    baseline: tuple[Call, int]
    timer: RoundTimer
    monitor: Monitor
    rounds_taken: int = 0

    def round(self, contenders: Sequence[Contender]) -> tuple[list[Round], list[int], list[float]]:
        """A round of each arm, the baseline's first; the place that each had, and the seconds that it took."""
        arms = [self.baseline, *((each.call, each.calls) for each in contenders)]
        order = balanced_order(len(arms), self.rounds_taken)
        self.rounds_taken += 1
        taken: dict[int, Round] = {}
        seconds: dict[int, float] = {}
        for arm in order:
            started = time.perf_counter()
            call, calls = arms[arm]
            taken[arm] = Round(self.timer.ms_per_call(call, calls), self.monitor.read())
            seconds[arm] = time.perf_counter() - started
        every = range(len(arms))
        return (
            [taken[arm] for arm in every],
            [order.index(arm) for arm in every],
            [seconds[arm] for arm in every],
        )


def measure_jointly(
    baseline: Call,
    treated: Sequence[Call],
    device: Device,
    conf: MeasureConf,
    *,
    cold: bool = False,
    launches: bool = True,
    monitor: Monitor | None = None,
    rounds: Sequence[Rounds],
) -> None:
    """Rounds of all arms, until each treated one's ratio to the baseline is known well enough; it then drops out.

    The budget is each treated arm's own: the time of its rounds and of the baseline's beside them. All must have been
    called before, as for `measure_interleaved`.

    Args:
        baseline: what is called for the baseline's rounds.
        treated: likewise for each treated arm's.
        device: what all run on.
        conf: when to stop.
        cold: flush the caches before each call.
        launches: count what the device waits for the host's launches.
        monitor: reads the device's state after each round.
        rounds: of each treated arm, filled in while measuring.

    Raises:
        RunEndedError: `failed`, when the clock keeps giving times that cannot be right.
    """
    timer, started = RoundTimer(device, cold=cold, launches=launches), time.perf_counter()
    joint = _Joint((baseline, timer.calls_for(baseline, conf.min_round_ms)), timer, monitor or Blind())
    contenders = [
        Contender(call, timer.calls_for(call, conf.min_round_ms), own, conf)
        for call, own in zip(treated, rounds, strict=True)
    ]
    for each in contenders:
        each.rounds.calls_per_round = (joint.baseline[1], each.calls)
        each.rounds.cache, each.rounds.launches = "cold" if cold else "warm", timer.launches
        each.rounds.arms = 1 + len(contenders)

    def whole(_: int) -> Pair:
        first, second, *others = joint.round(contenders)[0]
        return Pair(first, second, "", tuple(others))

    warmup = warm_up(whole, started + conf.max_warmup_s * (1 + len(contenders)) / 2)
    faults, graphs = page_faults(), graphs_compiled()
    while open_ := [each for each in contenders if not each.is_done]:
        taken, places, seconds = joint.round(open_)
        for arm, each in enumerate(open_, start=1):
            order = "AB" if places[0] < places[arm] else "BA"
            each.take(Pair(taken[0], taken[arm], order), seconds[0] + seconds[arm])
    for each in contenders:
        each.rounds.warmup_pairs = warmup
        each.rounds.page_faults, each.rounds.recompiles = page_faults() - faults, graphs_compiled() - graphs
        each.rounds.late_calls = (timer.late_calls(baseline), timer.late_calls(each.call))
