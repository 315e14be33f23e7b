"""Rules: where a scheme helps, hurts, or has no one verdict on one device, as sentences with their evidence."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from src.forecasts.arms import shapes_of
from src.forecasts.costs import Array
from src.forecasts.family import Family
from src.forecasts.forecast import Place
from src.forecasts.unquantized import Unquantized
from src.regimes.boxes import Mask, Seen, boxes, within
from src.regimes.features import FEATURES, PLAIN, table
from src.statistics.speedup import Verdict

NO_VERDICT = "has no one verdict"
_LEAST = 5  # cells that a tree is grown from
_WORTH = 0.05  # share of cells told right that features which are not plain must add
_FOLDS = 16  # more (K, N) than that are left out several at once
_DOUBT = 0.03  # standard error of log speedup of a cell that tells none: what processes differ by
_SAYS: dict[str, str] = {
    Verdict.HELPS: "helps",
    Verdict.HURTS: "hurts",
    Verdict.NEUTRAL: "makes no difference",
    Verdict.INCONCLUSIVE: NO_VERDICT,
}


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
        """``M ≥ 1,024``, ``M 32–256``, ``M = 16``."""
        feature = FEATURES[self.feature]
        if math.isinf(self.high):
            return f"{feature.name} ≥ {feature.text(self.seen_low)}"
        if math.isinf(-self.low):
            return f"{feature.name} ≤ {feature.text(self.seen_high)}"
        if self.seen_low == self.seen_high:
            return f"{feature.name} = {feature.text(self.seen_low)}"
        return f"{feature.name} {feature.text(self.seen_low)}–{feature.text(self.seen_high)}"


@dataclass(frozen=True)
class Rule:
    """One box: where it holds, what it says, on what evidence."""

    device: str
    compile: str
    dtype: str
    quant: str
    conditions: tuple[Condition, ...]
    verdict: str  # of three quarters of its cells; else inconclusive
    speedup: float  # median of its cells
    low: float  # 5th and 95th percentile of them
    high: float
    cells: int
    own: int
    right: int | None  # cells whose verdict a tree grown without their (K, N) told; None: it cannot be tested
    helps: int = 0  # of its cells
    hurts: int = 0

    @property
    def where(self) -> str:
        """Its conditions in words."""
        return " and ".join(condition.text for condition in self.conditions) or "everywhere it was measured"

    @property
    def is_mixed(self) -> bool:
        """Whether its cells have no one verdict: then it claims nothing."""
        return self.verdict == Verdict.INCONCLUSIVE

    @property
    def is_refuted(self) -> bool:
        """Whether its test was made, and failed; without one, whether its own cells lie on both sides of 1."""
        if self.is_mixed:
            return False
        if self.right is None:
            return self.verdict != Verdict.NEUTRAL and self.low <= 1 <= self.high
        return 2 * self.right <= self.cells

    @property
    def doubt(self) -> str:
        """Why it is refuted."""
        return "its own cells lie on both sides of 1" if self.right is None else "its test failed"

    @property
    def tested(self) -> str:
        """What its test says; of one that claims nothing what its cells say."""
        if self.is_mixed:
            others = self.cells - self.helps - self.hurts
            counts = {"helps": self.helps, "hurts": self.hurts, "neutral": others}
            return ", ".join(f"{verdict} {count}" for verdict, count in counts.items() if count)
        if self.right is None:
            return "not tested: one K × N"
        return f"told right for {self.right} of {self.cells} without their K × N"

    @property
    def claim(self) -> str:
        """``int8dq hurts where M ≤ 16``; of a refuted one that it says nothing."""
        where = f"{'where ' if self.conditions else ''}{self.where}"
        if self.is_refuted:
            return f"{self.quant} {NO_VERDICT} {where}: {self.doubt}"
        return f"{self.quant} {_SAYS[self.verdict]} {where}"

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
        many = f"{self.cells} cell{'' if self.cells == 1 else 's'}{of}"
        told = f"{self.speedup:.2f}× of {many}"
        if self.cells > 1:
            told = f"median {told}, nine tenths of them {self.low:.2f}–{self.high:.2f}×"
        return f"{self.claim}: {told}; {self.tested}"

    def holds(self, values: Array) -> bool:
        """Whether a shape, as a row of `features.table`, is in it."""
        return all(each.low < values[each.feature] <= each.high for each in self.conditions)


def rules(fitted: Family, place: Place, quant: str, margin: float) -> list[Rule]:
    """The rules of a scheme in one place; none where it has too few cells.

    Args:
        fitted: the place's family; of its costs only the unquantized arm's count.
        place: its compile mode as kernels know it.
        quant: the scheme.
        margin: a speedup within it is neutral.
    """
    rows = fitted.cells[(fitted.cells["device"] == place.device) & (fitted.cells["quant"] == quant)]
    if len(rows) < _LEAST:
        return []
    base, switch = fitted.arms.baselines[place.device], fitted.switches.get(quant)
    last = switch.last if switch and switch.known else None
    named = asdict(place) | {"quant": quant}
    return [*_of_scheme(rows.reset_index(drop=True), base, named, margin, last)]


def fired(known: list[Rule], quant: str, device: str, shape: Array, baseline: Unquantized) -> Rule | None:
    """The rule of this scheme and device that a shape is in."""
    values = table(shape[None], baseline)[0]
    return next((r for r in known if (r.quant, r.device) == (quant, device) and r.holds(values)), None)


def _of_scheme(
    rows: pd.DataFrame, base: Unquantized, place: dict[str, str], margin: float, last: int | None
) -> Iterator[Rule]:
    logs, weights = (rows[name].to_numpy(dtype=np.float64) for name in ("log", "weight"))
    errors = rows["error"].fillna(_DOUBT).to_numpy(dtype=np.float64)
    everything = table(shapes_of(rows), base)
    seen = Seen(everything[:, :PLAIN], logs, weights, errors, margin)
    right = _tested(rows, seen)
    if right.mean() < 1 - _WORTH:  # else no features tell so much more
        every = Seen(everything, logs, weights, errors, margin)
        by_every = _tested(rows, every)
        if right.mean() < by_every.mean() - _WORTH:
            seen, right = every, by_every
    testable = len(rows[["K", "N"]].drop_duplicates()) > 1
    for box in boxes(seen, last):
        inside = within(box, seen.values)
        members = seen.among(inside)
        effect, verdict = np.exp(np.quantile(members.logs, [0.5, 0.05, 0.95])), members.verdict
        tested = testable and verdict != Verdict.INCONCLUSIVE
        yield Rule(
            **place,
            conditions=tuple(_condition(f, box[f], seen.values[:, f], last) for f in sorted(box)),
            verdict=verdict,
            speedup=float(effect[0]), low=float(effect[1]), high=float(effect[2]),
            cells=int(inside.sum()), own=int((rows["own"].to_numpy() & inside).sum()),
            right=int(right[inside].sum()) if tested else None,
            helps=int((members.said == "helps").sum()), hurts=int((members.said == "hurts").sum()),
        )  # fmt: skip


def _tested(rows: pd.DataFrame, seen: Seen) -> Mask:
    """Per cell, whether the boxes made without its (K, N) tell its verdict."""
    right = np.zeros(len(rows), dtype=np.bool_)
    sides = rows.groupby(["K", "N"]).ngroup().to_numpy() % _FOLDS
    for fold in np.unique(sides):
        out = sides == fold
        if out.all():
            continue
        kept = seen.among(~out)
        for box in boxes(kept, None):
            verdict = kept.among(within(box, kept.values)).verdict
            right |= out & within(box, seen.values) & (seen.said == verdict)
    return right


def _condition(feature: int, span: tuple[float, float], values: Array, last: int | None) -> Condition:
    """A bound that is a kernel's last M is told as that."""
    low, high = span
    inside = values[(values > low) & (values <= high)]
    seen_low = low + 1 if feature == 0 and low == last else float(inside.min())
    return Condition(
        feature, low, high, seen_low, high if feature == 0 and high == last else float(inside.max())
    )
