"""Which pairs of rounds count, and when there are enough: the end of every loop over a pair of arms."""

from dataclasses import dataclass, field

from src.config.schema.measure import MeasureConf
from src.measurement.rounds import Pair, Rounds, estimate_speedup
from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.statistics.stopping import StopRule

CLOCK_FAULTS = 8  # rounds whose time cannot be right, before the run is given up


@dataclass
class UntilKnown:
    """Counts pairs until their ratio is known well enough, or the budget is spent; `stop_reason` says which."""

    rounds: Rounds  # filled in
    conf: MeasureConf
    _rule: StopRule = field(init=False)
    _look: int = field(init=False)  # at the estimate, once there are so many pairs

    def __post_init__(self) -> None:
        conf = self.conf
        self._rule = StopRule(
            conf.min_pairs, conf.max_pairs, conf.target_ci_width, conf.budget_s, conf.margin, conf.clear_width
        )
        self._look = self._rule.next_look(0)

    def take(self, pair: Pair, seconds: float) -> None:
        """Count a pair, unless it is to be taken again, and decide whether it was the last one.

        Args:
            seconds: that all pairs took by now.

        Raises:
            RunEndedError: `failed`, when the clock keeps giving times that cannot be right.
        """
        rounds = self.rounds
        rounds.seconds = seconds
        if must_retake(pair, rounds, budget_left=seconds < self.conf.budget_s):
            return
        rounds.count(pair)
        pairs, estimate = len(rounds.order), None
        if pairs >= self._look:
            estimate = estimate_speedup(rounds.against_fastest(), self.conf)
            self._look = self._rule.next_look(pairs)
        rounds.stop_reason = self._rule.decide(pairs, seconds, estimate) or ""


def must_retake(pair: Pair, rounds: Rounds, *, budget_left: bool) -> bool:
    """Set a pair aside that says nothing of the arms; a throttled one is counted once the budget is spent.

    Raises:
        RunEndedError: `failed`, when the clock keeps giving times that cannot be right.
    """
    if pair.clock_failed:
        rounds.set_aside(pair, "clock")
        if sum(aside["why"] == "clock" for aside in rounds.retaken) >= CLOCK_FAULTS:
            raise RunEndedError(
                Outcome.FAILED,
                f"the clock gave {pair.baseline.ms:g} and {pair.treated.ms:g} ms for a pair of rounds, "
                f"{CLOCK_FAULTS} such pairs in all: times must be finite and positive",
                "look at the machine's clock source; a longer measure.min_round_ms",
            )
        return True
    if pair.throttled and budget_left:
        rounds.set_aside(pair, f"throttled: {', '.join(pair.throttled)}")
        return True
    return False
