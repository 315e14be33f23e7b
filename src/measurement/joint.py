"""Rounds of several treated arms against one baseline: k of them cost k + 1 arms and not 2 k.

Each gets a pair per round: its own time and the baseline's. The order changes from round to round, and each order is
followed by its mirror image, so that what drifts through a round adds to a ratio as often as it takes away.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Monitor
from src.measurement.paired import (
    USUAL,
    Conditions,
    begin,
    disturbances,
    note_late,
    warm_up,
)
from src.measurement.rounds import Pair, Round, Rounds
from src.measurement.until_known import UntilKnown
from src.timers.timer import Call, RoundTimer


def balanced_order(arms: int, index: int) -> list[int]:
    """In which order a round takes the arms: a Latin square's rows by turns, each followed by its mirror image.

    The square is that of Williams (1949): with the mirror images every arm stands in every place, and follows every
    other arm, equally often.
    """
    zigzag = [(step + 1) // 2 if step % 2 else (arms - step // 2) % arms for step in range(arms)]
    row = [(arm + index // 2) % arms for arm in zigzag]
    return row[::-1] if index % 2 else row


@dataclass(frozen=True)
class Contender:
    """A treated arm among several, with the rounds that are its own and the end of them."""

    call: Call
    calls: int  # per round
    counting: UntilKnown

    @property
    def rounds(self) -> Rounds:
        """Its own."""
        return self.counting.rounds


@dataclass
class _Taken:
    """A round of each arm: the baseline, the treated arms, the others."""

    rounds: list[Round]
    places: list[int]  # which each had in the order
    seconds: list[float]

    def pair(self, treated: int, others: Sequence[int]) -> Pair:
        """The baseline and one treated arm, with the others beside them."""
        return Pair(
            self.rounds[0],
            self.rounds[treated],
            self._order(0, treated),
            tuple(self.rounds[other] for other in others),
            tuple(self._order(other, treated) for other in others),
        )

    def _order(self, arm: int, treated: int) -> str:
        return "AB" if self.places[arm] < self.places[treated] else "BA"


@dataclass
class _Joint:
    """What takes the rounds of all arms.

    Args:
        baseline: it and its calls per round.
        others: further unquantized ones.
    """

    timer: RoundTimer
    monitor: Monitor
    baseline: tuple[Call, int]
    contenders: Sequence[Contender]
    others: Mapping[str, tuple[Call, int]]
    taken: int = 0

    def begin(self) -> None:
        """Note how rounds are taken."""
        calls = {name: calls for name, (_, calls) in self.others.items()}
        for each in self.contenders:
            begin(each.rounds, self.timer, (self.baseline[1], each.calls), calls)
            each.rounds.arms = 1 + len(self.contenders)

    def warm_up(self, _: int) -> Pair:
        """The first contender's pair of a round of all arms."""
        taken = self._round(self.contenders)
        return taken.pair(1, range(2, len(taken.rounds)))

    def until_all_are_known(self) -> None:
        """Count pairs; a contender whose ratio is known well enough drops out."""
        while open_ := [each for each in self.contenders if not each.rounds.stop_reason]:
            taken = self._round(open_)
            others = range(1 + len(open_), len(taken.rounds))
            shared_s = taken.seconds[0] + sum(taken.seconds[other] for other in others)
            for arm, each in enumerate(open_, start=1):
                seconds = each.rounds.seconds + (shared_s + taken.seconds[arm])
                each.counting.take(taken.pair(arm, others), seconds)

    def _round(self, open_: Sequence[Contender]) -> _Taken:
        """One of each arm, in the order that is next."""
        arms = [self.baseline, *((each.call, each.calls) for each in open_), *self.others.values()]
        order = balanced_order(len(arms), self.taken)
        self.taken += 1
        found: dict[int, tuple[Round, float]] = {}
        for arm in order:
            started = time.perf_counter()
            single = Round(self.timer.ms_per_call(*arms[arm]), self.monitor.read())
            found[arm] = (single, time.perf_counter() - started)
        every = range(len(arms))
        rounds, seconds = zip(*(found[arm] for arm in every), strict=True)
        return _Taken([*rounds], [order.index(arm) for arm in every], [*seconds])


def measure_jointly(
    baseline: Call,
    treated: Sequence[Call],
    device: Device,
    conf: MeasureConf,
    conditions: Conditions = USUAL,
    *,
    rounds: Sequence[Rounds],
    others: Mapping[str, Call] | None = None,
) -> None:
    """Rounds of all arms, until each treated one's ratio to the baseline is known well enough; it then drops out.

    The budget is each treated arm's own: the time of its rounds and of the unquantized ones beside them. All must
    have been called before. Arguments and errors are those of `measure_interleaved`, but for:

    Args:
        rounds: of each treated arm, filled in while measuring.
    """
    timer, started = conditions.timer(device), time.perf_counter()

    def sized(call: Call) -> tuple[Call, int]:
        return call, timer.calls_for(call, conf.min_round_ms)

    first, beside = sized(baseline), {name: sized(call) for name, call in (others or {}).items()}
    contenders = [
        Contender(*sized(call), UntilKnown(own, conf)) for call, own in zip(treated, rounds, strict=True)
    ]
    joint = _Joint(timer, conditions.monitor, first, contenders, beside)
    joint.begin()
    pairs = warm_up(joint.warm_up, started + conf.max_warmup_s * (1 + len(contenders)) / 2)
    with disturbances(rounds, timer):
        joint.until_all_are_known()
    for each in contenders:
        each.rounds.warmup_pairs = pairs
        note_late(each.rounds, timer, (baseline, each.call, *(others or {}).values()))
