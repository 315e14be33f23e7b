"""When to stop measuring: the interval is narrow, the budget spent, or the pairs are exhausted."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from src.measurement.bootstrap import MIN_PAIRS
from src.measurement.statistics import SpeedupEstimate

LUCK = 10.0  # pairs: how much narrower than the target an interval of few pairs must be to stop
LOOK_GROWTH = 1.25  # of the pairs from one look at the interval to the next


class StopReason(StrEnum):
    """Why measuring ended."""

    NARROW = "narrow"
    BUDGET = "budget"
    MAX_PAIRS = "max_pairs"


@dataclass
class StopRule:
    """Ends one paired loop: interval narrow enough, budget spent, or pairs exhausted.

    An interval may be narrow by luck, and stopping there costs coverage (91 % instead of 95 % in simulation;
    Chow & Robbins 1965). So it must be narrow at two looks in a row, and at few pairs narrower than the target:
    by 1 + 10 / pairs, as widths are the less certain the fewer pairs they come from. One rule per loop.
    """

    min_pairs: int
    max_pairs: int
    target_width: float  # of the interval, relative to the speedup
    budget_s: float
    narrow_looks: int = field(default=0, init=False)  # in a row, up to the last look

    def __post_init__(self) -> None:
        if not MIN_PAIRS <= self.min_pairs <= self.max_pairs:
            raise ValueError(
                f"min_pairs is {self.min_pairs}, must be from {MIN_PAIRS} to max_pairs, {self.max_pairs}"
            )

    def decide(self, pairs: int, elapsed_s: float, estimate: SpeedupEstimate | None) -> StopReason | None:
        """Why to stop now, or None to go on (always below min_pairs); `estimate` is None between looks."""
        if pairs < self.min_pairs:
            return None
        if estimate is not None:
            narrow = is_narrow(estimate, self.target_width / (1 + LUCK / pairs))
            self.narrow_looks = self.narrow_looks + 1 if narrow else 0
        if self.narrow_looks >= 2:
            return StopReason.NARROW
        if pairs >= self.max_pairs:
            return StopReason.MAX_PAIRS
        return StopReason.BUDGET if elapsed_s >= self.budget_s else None

    def next_look(self, pairs: int) -> int:
        """The number of pairs at which to estimate next: first min_pairs, then 25 % more at a time."""
        return min(self.max_pairs, max(self.min_pairs, math.ceil(pairs * LOOK_GROWTH)))


def is_narrow(estimate: SpeedupEstimate, target_width: float) -> bool:
    """Whether the interval's relative width is at most the target."""
    return estimate.relative_width <= target_width
