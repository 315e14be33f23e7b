"""A run whose device stood at its power cap: which ratio counts, and what the record says of both."""

from dataclasses import asdict

from src.context import RunContext
from src.records.record import Record
from src.statistics.speedup import SpeedupEstimate
from src.tasks.arms.timing import Timed

_NUMBERS = ("ratio", "ci_low", "ci_high")


def counting_estimate(alternating: SpeedupEstimate, timed: Timed, run: RunContext) -> SpeedupEstimate:
    """The estimate that the verdict is of: that of the blocks where there are some, as a user runs one arm at a time.

    The record gets both: the other one as ``speedup/alternating_*``, and ``details.power_cap``.
    """
    run.record.details.pop("power_cap", None)  # of a plan that was not applied
    if timed.blocks is None:
        return alternating
    blocks = timed.blocks.estimate(run.cfg.measure.confidence)
    apart = max(blocks.ratio / alternating.ratio, alternating.ratio / blocks.ratio) - 1
    run.record.details["power_cap"] = {
        "counts": "blocks",
        "blocks": asdict(blocks),
        "alternating": asdict(alternating),
        "disagree": apart > run.cfg.measure.margin,
    }
    run.record.metrics |= {f"speedup/alternating_{name}": getattr(alternating, name) for name in _NUMBERS}
    return blocks


def power_cap_note(record: Record) -> str:
    """One sentence where the two ratios differ by more than the margin."""
    found = record.details.get("power_cap")
    if not found or not found["disagree"]:
        return ""
    blocks, alternating = found["blocks"]["ratio"], found["alternating"]["ratio"]
    return (
        f"at the power cap: {blocks:.3f}x in blocks of one arm, which is what counts and what a user gets, against "
        f"{alternating:.3f}x in alternating rounds, where both arms share one clock"
    )
