"""Experiments as an instrument of known quality would make them: a good one, a biased one, a blind one."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

from src.calibration.experiments.plan import Experiment, Kind, Spec, plan
from src.config.schema.measure import MeasureConf
from src.statistics.speedup import SpeedupEstimate, verdict

SLOWDOWNS = (0.02, 0.03, 0.05, 0.1)
MEASURE = MeasureConf(name="standard")


def instrument(
    bias: float = 0.0,
    sensitivity: float = 1.0,
    *,
    half_width: float = 0.004,
    loop_bias: float = 0.0,
    built_second: float = 0.0,
    second_arm: float = 0.0,
    experiments: int = 60,
    processes: int = 12,
    crowded: float = 0.0,
) -> list[Experiment]:
    """The experiments of a calibration.

    Args:
        bias: relative, on every estimate.
        sensitivity: how much of a slowdown is seen.
        half_width: of the intervals, relative; the estimates' own noise is half of it.
        loop_bias: of the rounds against a bare loop, relative.
        built_second: how much faster the copy built second is, relative.
        second_arm: how much faster the treated arm is, whichever copy it is.
        experiments: of each kind.
        processes: that they are dealt out to.
        crowded: share that is crowded, with nonsense for estimates.
    """
    rng = random.Random(1)
    found = []
    for process, batch in enumerate(plan(experiments, SLOWDOWNS, processes, 0), start=1):
        for spec in batch:
            each = Experiment(spec.kind, spec.slowdown, spec.swapped, process, f"{process}-{len(found)}", 2.0)
            each.crowded = rng.random() < crowded
            if spec.kind in (Kind.AA, Kind.SLOWDOWN):
                placed = second_arm + (-built_second if spec.swapped else built_second)
                _compare(each, spec, bias + placed + rng.gauss(0, half_width / 2), sensitivity, half_width)
            else:
                each.ratios = [1 + loop_bias + rng.gauss(0, 0.0005) for _ in range(4)]
            if each.crowded and each.speedup is not None:
                each.speedup, each.verdict = 0.5, "hurts"
            found.append(each)
    return found


def _compare(each: Experiment, spec: Spec, off: float, sensitivity: float, half_width: float) -> None:
    each.truth = 1 / (1 + spec.slowdown)
    each.speedup = math.exp(math.log(each.truth) * sensitivity + off)
    each.ci_low, each.ci_high = each.speedup * math.exp(-half_width), each.speedup * math.exp(half_width)
    estimate = SpeedupEstimate(each.speedup, each.ci_low, each.ci_high, 60, 1)
    each.verdict, each.pairs, each.stop_reason = str(verdict(estimate, MEASURE.margin)), 60, "narrow"
    each.baseline_ms, each.treated_ms, each.delay_ms = 5.0, 5.0 / each.speedup, 5.0 * spec.slowdown


def raw_lines(experiments: list[Experiment]) -> Iterator[str]:
    """``experiments.jsonl`` of these experiments."""
    rng = random.Random(2)
    for each in experiments:
        baseline = [5 * (1 + rng.gauss(0, 0.01)) for _ in range(60)]
        treated = [ms / (each.truth or 1) for ms in baseline]
        delays = [5.0 * each.slowdown] * 60 if each.slowdown else []
        rounds = {"baseline_ms": baseline, "treated_ms": treated} | ({"delays_ms": delays} if delays else {})
        yield json.dumps({"started_at": each.started_at, "rounds": rounds})


def write_raw(experiments: list[Experiment], folder: Path) -> None:
    (folder / "experiments.jsonl").write_text("\n".join(raw_lines(experiments)) + "\n")
