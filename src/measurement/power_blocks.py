"""Under a power cap: blocks of one arm, each long enough for the power controller to follow.

Where a device stands at its power limit, its controller sets a clock for the power drawn over some tenths of a
second. Arms that alternate every few milliseconds share that clock, and the one that draws less cannot show it. Who
uses a treatment runs it for minutes. So both arms run again, in blocks A B B A B A A B of 1.5 s, of which the first
half is set aside while the controller settles. Where a round is longer than such a half, one is set aside and one
counts: the interval comes from the blocks, not from the rounds inside.
"""

import math
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from scipy.special import stdtrit

from src.config.schema.measure import MeasureConf
from src.measurement.energy import Meter, Spent
from src.measurement.paired import Arms
from src.measurement.rounds import Round, Rounds
from src.statistics.speedup import SpeedupEstimate

BLOCK_S = 1.5  # at least: both of its parts end with a whole round
SETTLE_S = 0.75  # of each block, set aside; the rest counts
_MOSTLY = 0.5  # of the rounds at the cap
_PAIRS = (4, 16)  # of blocks, at least and at most; an even number of them cancels a linear drift


@dataclass
class Block:
    """One block of one arm: its counted rounds."""

    arm: str  # A: baseline, B: treated
    ms: list[float] = field(default_factory=list)  # per call
    states: dict[str, list[float]] = field(
        default_factory=dict
    )  # power_w: one value, from the energy counter
    slowdowns: list[str] = field(default_factory=list)  # for another reason than the power cap
    spent: Spent | None = None  # by the counter, over its counted rounds

    def count(self, taken: Round) -> None:
        """Add a round; NVML's own power, a mean over about a second, is left out."""
        self.ms.append(taken.ms)
        self.slowdowns = sorted({*self.slowdowns, *taken.reading.slowdowns})
        for name, value in taken.reading.values.items():
            if name != "power_w":
                self.states.setdefault(name, []).append(value)


@dataclass
class PowerBlocks:
    """Blocks in the order measured, as ``power_blocks.json``; an even number, of both arms alike."""

    blocks: list[Block] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For the run's folder."""
        return {"block_s": BLOCK_S, "settle_s": SETTLE_S, "blocks": [asdict(block) for block in self.blocks]}

    def estimate(self, confidence: float) -> SpeedupEstimate:
        """Baseline / treated from the pairs of neighbouring blocks, with Student's interval of their log ratios."""
        levels = {id(block): math.log(statistics.median(block.ms)) for block in self.blocks}
        ratios = []
        for pair in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            baseline, treated = sorted(pair, key=lambda block: block.arm)
            ratios.append(levels[id(baseline)] - levels[id(treated)])
        mean, error = statistics.fmean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))
        half = float(stdtrit(len(ratios) - 1, (1 + confidence) / 2)) * error
        low, high = math.exp(mean - half), math.exp(mean + half)
        return SpeedupEstimate(math.exp(mean), low, high, len(ratios), 1, error)

    def slowdowns(self) -> list[str]:
        """Why the device slowed itself down in some of the blocks, power aside."""
        return sorted({name for block in self.blocks for name in block.slowdowns})

    def spent(self, arm: str) -> Spent | None:
        """What one arm's blocks drew over their counted rounds; None where the counter did not tell of each."""
        told = [block.spent for block in self.blocks if block.arm == arm]
        found = [each for each in told if each]
        return sum(found[1:], start=found[0]) if found and len(found) == len(told) else None

    def rounds(self) -> Rounds:
        """All counted rounds, by arm, with the device's state in each arm's blocks."""
        found = Rounds()
        for block in self.blocks:
            name, times = (
                ("baseline", found.baseline_ms) if block.arm == "A" else ("treated", found.treated_ms)
            )
            times.extend(block.ms)
            for state, values in block.states.items():
                found.states.setdefault(f"{name}/{state}", []).extend(values)
        return found


def stands_at_cap(rounds: Rounds) -> bool:
    """Whether most rounds of an arm found the device at its power limit, each too short to be a block itself."""
    capped = any(_capped_share(rounds, arm) > _MOSTLY for arm in ("baseline", "treated"))
    return capped and min(map(statistics.median, _lengths_ms(rounds))) < BLOCK_S * 1e3


def measure_power_blocks(arms: Arms, conf: MeasureConf, blocks: PowerBlocks) -> None:
    """Measure blocks A B B A B A A B ..., as many as the budget holds, 4 to 16 of each arm.

    They take 12 to 48 s, and of rounds longer than half a block as long as 16 to 64 rounds.

    Args:
        arms: warmed up, timed as in their alternating rounds.
        blocks: filled in while measuring, so that a caller has them whatever happens.
    """
    done, pairs, started = 0, _PAIRS[0], time.perf_counter()
    while done < pairs:
        for arm in "AB" if done % 4 in (0, 3) else "BA":
            blocks.blocks.append(_measured(arm, arms))
        done += 1
        if done == 1:
            pairs = _pairs_within(conf.budget_s, time.perf_counter() - started)


def _pairs_within(budget_s: float, pair_s: float) -> int:
    """How many pairs of blocks the budget holds, within the limits."""
    return 2 * round(min(max(budget_s / pair_s, _PAIRS[0]), _PAIRS[1]) / 2)


def _measured(name: str, arms: Arms) -> Block:
    call = arms.baseline if name == "A" else arms.treated
    calls = arms.calls_per_round[name == "B"]
    block, started = Block(name), time.perf_counter()
    while time.perf_counter() - started < SETTLE_S:
        arms.round(call, calls)
    meter, settled = Meter(arms.monitor), time.perf_counter()
    meter.read()
    while time.perf_counter() - settled < BLOCK_S - SETTLE_S or not block.ms:
        taken = arms.round(call, calls)
        meter.read(calls)
        if not taken.clock_failed:
            block.count(taken)
    block.spent = meter.spent()
    if block.spent:
        block.states["power_w"] = [block.spent.joules / block.spent.seconds]
    return block


def _capped_share(rounds: Rounds, arm: str) -> float:
    told = [value for value in rounds.states.get(f"{arm}/power_capped", []) if value is not None]
    return statistics.fmean(told) if told else 0.0


def _lengths_ms(rounds: Rounds) -> list[list[float]]:
    """Of each arm's rounds."""
    arms = zip((rounds.baseline_ms, rounds.treated_ms), rounds.calls_per_round, strict=True)
    return [[ms * calls for ms in times] for times, calls in arms]
