"""What guesses of runs say of each other: more work never takes less, and what is shared is done once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from src.config.schema.root import RootConf
from src.planning.hours import GUESS, LEAST, PROBE_S
from src.planning.matrix import Fate, Group, Launch, PlannedRun, Sent
from src.planning.parts import CEILINGS, ELSE, ROUNDS

_BATCH = "batch"
_START_S = 10.0  # of a process, with the equal pairs at its first and last place


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


def in_shared_rounds(
    runs: Sequence[PlannedRun], configs: Sequence[RootConf], groups: Mapping[str, Group], launch: Launch
) -> list[PlannedRun]:
    """The runs; of guessed ones in the same rounds the first has these, and the first of a process has its start.

    Args:
        groups: of the runs, by name.
        launch: which says what share what.
    """
    found = list(runs)
    for batches in launch.together(list(_sent(runs, configs, groups))) if launch.together else ():
        start_s = _START_S
        for batch in (each for each in batches if len(each) > 1):
            rounds_s = 0.0  # that another one has
            for index in batch:
                found[index] = _sharing(found[index], rounds_s, start_s)
                start_s = 0.0
                if runs[index].fate is not Fate.UNSUPPORTED:
                    rounds_s = configs[index].measure.budget_s
    return found


def _sent(
    runs: Sequence[PlannedRun], configs: Sequence[RootConf], groups: Mapping[str, Group]
) -> Iterator[Sent | None]:
    """Each run with its dtype settled, and its device; None: it is not sent, or its device is not known."""
    for run, cfg in zip(runs, configs, strict=True):
        device = None if run.fate.is_skipped else groups[run.group].card.device
        yield (replace(cfg, dtype=run.axes["dtype"]), device.as_dict()) if device else None


def _sharing(run: PlannedRun, less_s: float, start_s: float) -> PlannedRun:
    """A guessed run without seconds of its rounds; beside what its fewest calls take it has a start, if any."""
    estimate = run.estimate
    if estimate.source != GUESS:
        return run
    rounds_s, else_s = (estimate.parts_s.get(name, 0.0) for name in (ROUNDS, ELSE))
    slow_s = 0.0 if run.fate is Fate.UNSUPPORTED else max(0.0, else_s - PROBE_S)
    parts_s = {**estimate.parts_s, ROUNDS: max(0.0, rounds_s - less_s), ELSE: start_s + slow_s}
    return replace(run, estimate=replace(estimate, seconds=sum(parts_s.values()), parts_s=parts_s))
