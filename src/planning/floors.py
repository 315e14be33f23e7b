"""What a guess of one run says of another: more of the same work never takes less."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from src.planning.hours import GUESS, LEAST
from src.planning.matrix import Fate, PlannedRun
from src.planning.parts import CEILINGS, ROUNDS

_BATCH = "batch"


def never_less(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs; where times are guessed, a larger batch takes no less than a smaller one of the same workload.

    What is predicted of a slow arm may be a bound, which can be a weaker one of the larger batch.
    """
    found = list(runs)
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        if run.fate in (Fate.RUN, Fate.OOM, Fate.TIMEOUT) and run.estimate.source in (GUESS, LEAST):
            same = tuple(sorted((name, value) for name, value in run.axes.items() if name != _BATCH))
            alike[run.group, same].append(place)
    for places in alike.values():
        ordered = sorted(places, key=lambda place: int(runs[place].axes.get(_BATCH, 0)))
        for smaller, larger in pairwise(ordered):
            found[larger] = _no_less(found[larger], found[smaller])
    return found


def _no_less(run: PlannedRun, smaller: PlannedRun) -> PlannedRun:
    more_s = _own_s(smaller) - _own_s(run)
    if more_s > 0:
        parts_s = {name: s + more_s * (name == ROUNDS) for name, s in run.estimate.parts_s.items()}
        run = replace(
            run, estimate=replace(run.estimate, seconds=run.estimate.seconds + more_s, parts_s=parts_s)
        )
    if smaller.fate is Fate.TIMEOUT and run.fate is Fate.RUN:
        run = replace(run, fate=Fate.TIMEOUT, reason=smaller.reason, remedy=smaller.remedy)
    return run


def _own_s(run: PlannedRun) -> float:
    """Without the device's ceilings, which the first run measures for all."""
    return run.estimate.seconds - run.estimate.parts_s.get(CEILINGS, 0.0)
