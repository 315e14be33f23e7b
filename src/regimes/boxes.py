"""Boxes of shapes in which a scheme's cells say one thing: a shallow tree, and cuts along M where that is too coarse.

A box says what at least three quarters of its cells say, else nothing. A branch of the tree, or a stretch of M, in
which more cells clearly say the opposite of what is said around them than agree with it, is a box of its own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from src.forecasts.costs import Array
from src.statistics.speedup import Verdict

DEPTH = 3
_SHARE = 0.75  # of its cells' weight, that says what a box says
_SURE = 1.96  # standard errors beyond the margin: then a cell clearly helps or hurts
_CLIP = 0.35  # of log speedup: what is farther from 1 is no reason for another split
_LEAVES = 12  # a leaf of the tree holds at least one of so many parts of the cells
_MIXED = 3  # cells that a box without a verdict holds at least
_MOST_TURNS = 6  # M between which cuts are tried
_MOST_CUTS = 2  # of one leaf along M
_SAID = (str(Verdict.HELPS), str(Verdict.HURTS), str(Verdict.NEUTRAL))
_NONE = str(Verdict.INCONCLUSIVE)
_HIDDEN = _SHARE / (1 - _SHARE)  # clear cells told right that outweigh one told wrong

Box = dict[int, tuple[float, float]]  # feature -> above, up to
Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]
Score = tuple[float, int, float]


def verdicts_of(log_speedups: Array, margin: float) -> Words:
    """What point estimates say at the margin."""
    edge = math.log1p(margin)
    return np.where(log_speedups > edge, "helps", np.where(log_speedups < -edge, "hurts", "neutral"))


@dataclass(frozen=True)
class Seen:
    """The cells of one scheme on one device, one each.

    Args:
        values: (cells, features); the first feature is M.
        logs: log speedups.
        weights: what each counts.
        errors: standard errors of `logs`.
        margin: a speedup within it is neutral, relative.
    """

    values: Array
    logs: Array
    weights: Array
    errors: Array
    margin: float

    @cached_property
    def said(self) -> Words:
        """What each says by its point."""
        return verdicts_of(self.logs, self.margin)

    @cached_property
    def counted(self) -> Array:
        """(cells, 6): weight under its verdict of `_SAID`, the same if it clearly helps or hurts, support.

        The support is 1; 2 of a cell that is clear and the only one with so many rows.
        """
        says = np.column_stack([self.said == verdict for verdict in _SAID])
        clear = np.abs(self.logs) - math.log1p(self.margin) > _SURE * self.errors
        weighed = self.weights[:, None] * says
        _, place, alike = np.unique(self.values[:, 0], return_inverse=True, return_counts=True)
        support = 1.0 + (clear & (alike[place] == 1))
        return np.column_stack([weighed, weighed[:, :2] * clear[:, None], support])

    @property
    def verdict(self) -> str:
        """What most of them say, if that is three quarters of them and their median says it too."""
        said = _verdict(self.counted.sum(axis=0).tolist())
        (median,) = verdicts_of(np.array([np.median(self.logs)]), self.margin)
        return said if said == median else _NONE

    def among(self, chosen: Mask) -> "Seen":
        """Some of them."""
        values, logs, weights, errors = (
            each[chosen] for each in (self.values, self.logs, self.weights, self.errors)
        )
        return Seen(values, logs, weights, errors, self.margin)


def within(box: Box, values: Array) -> Mask:
    """Which rows of features are in a box."""
    inside = np.ones(len(values), dtype=np.bool_)
    for feature, (low, high) in box.items():
        inside &= (low < values[:, feature]) & (values[:, feature] <= high)
    return inside


def boxes(seen: Seen, last: int | None) -> list[Box]:
    """All shapes, in as few boxes as tell what the tree's leaves tell.

    Args:
        seen: the cells.
        last: the last M that a scheme's kernel computes as one tile, which then is an edge; None: not known.
    """
    from sklearn.tree import DecisionTreeRegressor

    least = max(2, math.ceil(len(seen.logs) / _LEAVES))
    grown = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=least, random_state=0)
    grown.fit(np.log2(seen.values), np.clip(seen.logs, -_CLIP, _CLIP), sample_weight=seen.weights)
    tree, ms = grown.tree_, seen.values[:, 0]

    def walk(node: int, box: Box) -> list[Box]:
        whole = _along_m(seen, box, last)
        if tree.children_left[node] == tree.children_right[node]:
            return whole
        feature, edge = int(tree.feature[node]), float(2.0 ** tree.threshold[node])
        edge = _at_switch(edge, ms, last) if feature == 0 else edge
        parts = [
            each
            for child, half in zip(
                (tree.children_left[node], tree.children_right[node]),
                _halves(box, feature, edge),
                strict=True,
            )
            for each in walk(child, half)
        ]
        return whole if _tell_as_much(seen, whole, parts) else parts

    return walk(0, {})


def _halves(box: Box, feature: int, edge: float) -> tuple[Box, Box]:
    low, high = box.get(feature, (-math.inf, math.inf))
    return box | {feature: (low, edge)}, box | {feature: (edge, high)}


def _tell_as_much(seen: Seen, few: list[Box], many: list[Box]) -> bool:
    """Whether fewer boxes, or one, tell no fewer cells right than many do, clear ones and all."""
    mine, other = (_score([_sum(seen, box) for box in each]) for each in (few, many))
    fewer = len(few) < len(many) or len(few) == 1
    return fewer and all(a <= b for a, b in zip(mine, other, strict=True))


def _sum(seen: Seen, box: Box) -> list[float]:
    sums: list[float] = seen.counted[within(box, seen.values)].sum(axis=0).tolist()
    return sums


def _along_m(seen: Seen, box: Box, last: int | None) -> list[Box]:
    """A box, cut along M where that tells more clear cells right."""
    inside = within(box, seen.values)
    ms, place = np.unique(seen.values[inside, 0], return_inverse=True)
    sums = np.zeros((len(ms), seen.counted.shape[1]))
    np.add.at(sums, place, seen.counted[inside])
    turns = _turns(sums)
    choices = [cuts for count in range(_MOST_CUTS + 1) for cuts in combinations(turns, count)]
    cuts = min(choices, key=lambda each: _score(np.add.reduceat(sums, [0, *each], axis=0).tolist()))
    edges = [_at_switch(math.sqrt(ms[cut - 1] * ms[cut]), seen.values[:, 0], last) for cut in cuts]
    return [*_cut(box, edges)]


def _cut(box: Box, edges: list[float]) -> Iterator[Box]:
    for edge in edges:
        below, box = _halves(box, 0, edge)
        yield below
    yield box


def _turns(sums: Array) -> list[int]:
    """Before which M what the cells of one M say changes; of many such places those where it changes most."""
    said = [_verdict(each) for each in sums.tolist()]
    balance = (sums[:, 0] - sums[:, 1]) / sums[:, :3].sum(axis=1)
    found = [place for place in range(1, len(sums)) if said[place] != said[place - 1]]
    most = sorted(found, key=lambda place: (-abs(balance[place] - balance[place - 1]), place))[:_MOST_TURNS]
    return sorted(most)


def _score(sums: Sequence[Sequence[float]]) -> Score:
    """Of boxes, the less the better: clear weight told wrong less that told right, boxes, less all weight told right.

    A box is none of one cell, unless that is clear and the only one with so many rows; nor of two that differ.
    """
    clear, told = 0.0, 0.0
    for *said, helps, hurts, support in sums:
        verdict, sure = _verdict(said), {"helps": helps, "hurts": hurts}
        if verdict != _NONE:
            right = sure.get(verdict, 0.0)
            clear += right - _HIDDEN * (helps + hurts - right)
            told += max(said)
        if len(sums) > 1 and support < (_MIXED if verdict == _NONE else 2):
            clear = -math.inf
    return -round(clear, 6), len(sums), -round(told, 6)


def _verdict(sums: Sequence[float]) -> str:
    """What three quarters of the weight say."""
    said = sums[: len(_SAID)]
    most = max(said)
    return _SAID[said.index(most)] if most >= _SHARE * sum(said) > 0 else _NONE


def _at_switch(edge: float, ms: Array, last: int | None) -> float:
    """An edge of M between two that were measured, put where the kernel is known to switch between them."""
    if last is None or not ms[ms <= edge].max() <= last < ms[ms > edge].min():
        return edge
    return float(last)
