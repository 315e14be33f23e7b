"""Which trials are foregone: a candidate that clearly lost on both sides of a shape is not tried on it.

Weights-only schemes gain less the larger M is, schemes that quantize activations gain more; both gain more the larger
the weight is. So what lost at an M as small and at an M as large, with weights no smaller, loses in between.
"""

from collections.abc import Iterable, Sequence
from itertools import permutations

from src.autoquant.plan import Choice, Shape, Trial

CLEARLY = 0.9  # the speedup's whole interval lies below
_LIKE = 10  # times the shape's weight: a larger one says nothing of it, as other things take the time there


def telling_order(shapes: Iterable[Shape]) -> list[Shape]:
    """Shapes that say something of others first: the largest weights, of one size the smallest and largest M."""
    by_weight: dict[int, list[Shape]] = {}
    for shape in sorted(shapes):
        by_weight.setdefault(shape[1] * shape[2], []).append(shape)
    return [
        shape for weight in sorted(by_weight, reverse=True) for shape in _from_both_ends(by_weight[weight])
    ]


def foregone(scheme: str, shape: Shape, tried: Sequence[Choice]) -> str:
    """Why a candidate needs no trial on a shape, from those made so far; empty: it needs one."""
    rows, weight = shape[0], shape[1] * shape[2]
    lost = {
        (c.M, c.K, c.N): f" (timed by {t.run})" if t.run else ""
        for c in tried
        if weight <= c.K * c.N <= _LIKE * weight
        for t in c.trials
        if _lost(t, scheme)
    }
    for below, above in permutations(lost, 2):
        if below[0] <= rows <= above[0]:
            named = ("x".join(map(str, each)) + lost[each] for each in (below, above))
            return f"slower in {' and in '.join(named)}"
    return ""


def _lost(trial: Trial, scheme: str) -> bool:
    """By its whole interval, or so slow that it was dropped at first sight."""
    found = trial.speedup if trial.ci_high is None else trial.ci_high
    return trial.scheme == scheme and found is not None and found < CLEARLY


def _from_both_ends(shapes: list[Shape]) -> list[Shape]:
    left, found = list(shapes), list[Shape]()
    while left:
        found.append(left.pop(0 if len(found) % 2 == 0 else -1))
    return found
