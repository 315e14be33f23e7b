"""Rules: a shallow tree over the features of a scheme's cells on one device, as sentences with their evidence."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.forecasts.arms import shapes_of
from src.forecasts.costs import Array, Costs
from src.forecasts.family import Family
from src.regimes.features import FEATURES, PLAIN, table
from src.statistics.speedup import Verdict

DEPTH = 3
_LEAST = 5  # cells that a tree is grown from
_CLIP = 0.35  # of log speedup: what is farther from 1 is no reason for another split
_WORTH = 0.05  # share of cells told right that features which are not plain must add
_FOLDS = 16  # more (K, N) than that are left out several at once
_LEAVES = 12  # a leaf holds at least one of so many parts of the cells


@dataclass(frozen=True)
class Condition:
    """``low < feature <= high``; the text tells the nearest values that were measured."""

    feature: int
    low: float
    high: float
    seen_low: float
    seen_high: float

    @property
    def text(self) -> str:
        """``M ≥ 1,024``, ``M 32-256``."""
        feature = FEATURES[self.feature]
        if math.isinf(self.high):
            return f"{feature.name} ≥ {feature.text(self.seen_low)}"
        if math.isinf(-self.low):
            return f"{feature.name} ≤ {feature.text(self.seen_high)}"
        return f"{feature.name} {feature.text(self.seen_low)}–{feature.text(self.seen_high)}"


@dataclass(frozen=True)
class Rule:
    """One leaf: where it holds, what it says, on what evidence."""

    device: str
    compile: str
    dtype: str
    quant: str
    conditions: tuple[Condition, ...]
    verdict: str
    speedup: float  # median of its cells
    low: float  # 5th and 95th percentile of them
    high: float
    cells: int
    own: int
    right: int | None  # cells whose verdict a tree grown without their (K, N) told; None: all have one (K, N)

    @property
    def where(self) -> str:
        """Its conditions in words."""
        return " and ".join(condition.text for condition in self.conditions) or "everywhere"

    @property
    def is_refuted(self) -> bool:
        """Whether its test was made, and failed; without one, whether its own cells lie on both sides of 1."""
        if self.right is None:
            return self.verdict != Verdict.NEUTRAL and self.low <= 1 <= self.high
        return 2 * self.right <= self.cells

    @property
    def tested(self) -> str:
        """What its test says."""
        if self.right is None:
            return "not tested: one K × N"
        return f"told right for {self.right} of {self.cells} without their K × N"

    @property
    def text(self) -> str:
        """A sentence with support, effect and tested accuracy."""
        published = self.cells - self.own
        of = (
            f", {published} of them published"
            if published and self.own
            else " (published)"
            if published
            else ""
        )
        return (
            f"{self.quant} {_SAYS[self.verdict]} {'where ' if self.conditions else ''}{self.where}: "
            f"{self.speedup:.2f}× ({self.low:.2f}–{self.high:.2f}), {self.cells} cells{of}; {self.tested}"
        )

    def holds(self, values: Array) -> bool:
        """Whether a shape, as a row of `features.table`, is in it."""
        return all(each.low < values[each.feature] <= each.high for each in self.conditions)


_SAYS: dict[str, str] = {
    Verdict.HELPS: "helps",
    Verdict.HURTS: "hurts",
    Verdict.NEUTRAL: "makes no difference",
    Verdict.INCONCLUSIVE: "has no one verdict",
}


def rules(fitted: Family, compile_: str, dtype: str, margin: float) -> list[Rule]:
    """The rules of every device and scheme of a family that has cells enough."""
    found: list[Rule] = []
    for (device, quant), rows in fitted.cells.groupby(["device", "quant"], sort=True):
        if len(rows) >= _LEAST:
            base, switch = fitted.arms.baselines[str(device)], fitted.switches.get(str(quant))
            place = {"device": str(device), "compile": compile_, "dtype": dtype, "quant": str(quant)}
            last = switch.last if switch and switch.known else None
            found += _of_scheme(rows.reset_index(drop=True), base, place, margin, last)
    return found


def fired(known: list[Rule], quant: str, device: str, shape: Array, baseline: Costs) -> Rule | None:
    """The rule of this scheme and device that a shape is in."""
    values = table(shape[None], baseline)[0]
    return next((r for r in known if (r.quant, r.device) == (quant, device) and r.holds(values)), None)


def verdicts_of(log_speedups: Array, margin: float) -> npt.NDArray[np.str_]:
    """What point estimates say at the margin."""
    edge = math.log1p(margin)
    return np.where(log_speedups > edge, "helps", np.where(log_speedups < -edge, "hurts", "neutral"))


def _of_scheme(
    rows: pd.DataFrame, base: Costs, place: dict[str, str], margin: float, last: int | None
) -> Iterator[Rule]:
    everything, logs = table(shapes_of(rows), base), rows["log"].to_numpy()
    weights, said = rows["weight"].to_numpy(), verdicts_of(logs, margin)
    plain, right = everything[:, :PLAIN], _tested(rows, everything, logs, weights, said)
    by_plain = _tested(rows, plain, logs, weights, said)
    values, right = (plain, by_plain) if by_plain.mean() >= right.mean() - _WORTH else (everything, right)
    testable = len(rows[["K", "N"]].drop_duplicates()) > 1
    for box in _boxes(values, logs, weights, said, last):
        inside = _within(box, values)
        effect = np.exp(np.quantile(logs[inside], [0.5, 0.05, 0.95]))
        yield Rule(
            **place,
            conditions=tuple(_condition(f, box[f], values[:, f], last) for f in sorted(box)),
            verdict=_majority(said[inside], weights[inside]),
            speedup=float(effect[0]), low=float(effect[1]), high=float(effect[2]),
            cells=int(inside.sum()), own=int((rows["own"].to_numpy() & inside).sum()),
            right=int(right[inside].sum()) if testable else None,
        )  # fmt: skip


Box = dict[int, tuple[float, float]]  # feature -> above, up to


def _boxes(
    values: Array, logs: Array, weights: Array, said: npt.NDArray[np.str_], last: int | None
) -> list[Box]:
    """The tree's leaves; branches whose leaves all say the same are one. `last` M of a kernel is an edge."""
    from sklearn.tree import DecisionTreeRegressor

    least = max(2, math.ceil(len(logs) / _LEAVES))
    grown = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=least, random_state=0)
    grown.fit(np.log2(values), np.clip(logs, -_CLIP, _CLIP), sample_weight=weights)
    tree = grown.tree_

    def walk(node: int, box: Box, inside: npt.NDArray[np.bool_]) -> list[tuple[Box, str]]:
        own = _majority(said[inside], weights[inside])
        if tree.children_left[node] == tree.children_right[node]:
            return [(box, own)]
        feature, edge = int(tree.feature[node]), float(2.0 ** tree.threshold[node])
        edge = _at_switch(edge, values[:, feature], last) if feature == 0 else edge
        low, high = box.get(feature, (-math.inf, math.inf))
        below = values[:, feature] <= edge
        leaves = walk(tree.children_left[node], box | {feature: (low, edge)}, inside & below)
        leaves += walk(tree.children_right[node], box | {feature: (edge, high)}, inside & ~below)
        return [(box, own)] if len({verdict for _, verdict in leaves}) == 1 else leaves

    return [box for box, _ in walk(0, {}, np.ones(len(logs), dtype=np.bool_))]


def _tested(
    rows: pd.DataFrame, values: Array, logs: Array, weights: Array, said: npt.NDArray[np.str_]
) -> npt.NDArray[np.bool_]:
    """Per cell, whether the tree grown without its (K, N) tells its verdict."""
    right = np.zeros(len(rows), dtype=np.bool_)
    sides = rows.groupby(["K", "N"]).ngroup().to_numpy() % _FOLDS
    for fold in np.unique(sides):
        out = sides == fold
        if out.all():
            continue
        kept = ~out
        for box in _boxes(values[kept], logs[kept], weights[kept], said[kept], None):
            told = _within(box, values)
            verdict = _majority(said[kept & told], weights[kept & told])
            right |= out & told & (said == verdict)
    return right


def _within(box: Box, values: Array) -> npt.NDArray[np.bool_]:
    """Which rows of features are in a box."""
    inside = np.ones(len(values), dtype=np.bool_)
    for feature, (low, high) in box.items():
        inside &= (low < values[:, feature]) & (values[:, feature] <= high)
    return inside


def _condition(feature: int, span: tuple[float, float], values: Array, last: int | None) -> Condition:
    """A bound that is a kernel's last M is told as that."""
    low, high = span
    inside = values[(values > low) & (values <= high)]
    seen_low = low + 1 if feature == 0 and low == last else float(inside.min())
    return Condition(
        feature, low, high, seen_low, high if feature == 0 and high == last else float(inside.max())
    )


def _at_switch(edge: float, values: Array, last: int | None) -> float:
    """An edge of M between two that were measured, put where the kernel is known to switch between them."""
    if last is None or not values[values <= edge].max() <= last < values[values > edge].min():
        return edge
    return float(last)


def _majority(said: npt.NDArray[np.str_], weights: Array) -> str:
    """The verdict of most of the weight."""
    counts = {verdict: float(weights[said == verdict].sum()) for verdict in sorted(set(said.tolist()))}
    return str(max(counts, key=lambda verdict: counts[verdict]))
