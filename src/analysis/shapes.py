"""Speedup over M of one Linear, per scheme, compile mode, device and (K, N), and the break-even table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import md5
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.analysis.breakeven import Array, Crossing, Direction, crossings, curve
from src.analysis.crossing_words import TURNS, crossing_in_words
from src.analysis.runs.frame import compared, layer_level
from src.analysis.runs.tracked.kept import pieces
from src.config.program import program
from src.records.pooled import ESTIMATE, POOLED_ERROR
from src.statistics.speedup import Verdict

GROUP = ["device", "model", "target", "dtype", "compile", "quant", "variant", "K", "N"]
_MS = ("m", "m_low", "m_high", "m_below", "m_above", "straight_low", "straight_high")
COLUMNS = [
    *GROUP,
    *("case", "direction", *_MS, "low_open", "high_open", "seen", "decided"),
    *("m_min", "m_max", "points", "best", "best_low", "best_high", "best_m", "ranges", "says"),
]
_SPEEDUP = (*ESTIMATE, "confidence", POOLED_ERROR)
_CONTROL = "none"
_MANY = 500  # curves, whose crossings are kept
_IN_WORDS = {
    str(Verdict.HELPS): "helps",
    str(Verdict.HURTS): "hurts",
    str(Verdict.NEUTRAL): "no difference",
    str(Verdict.INCONCLUSIVE): "undecided",
}


class Case(StrEnum):
    """What a curve over M says."""

    CROSSES = "crosses"
    HELPS = "helps"
    HURTS = "hurts"
    NEUTRAL = "neutral"
    FASTER = "faster"  # above 1 at every measured M, not everywhere beyond the margin
    SLOWER = "slower"
    UNCLEAR = "unclear"  # on one side of 1 at every measured M, at none beyond the margin


@dataclass(frozen=True)
class Shapes:
    """One treatment's runs over M, for one (K, N) on one device."""

    group: dict[str, object]  # of GROUP
    ms: list[int]  # measured, rising
    verdicts: list[str]  # of each M
    speedups: Array  # (5, M): speedup, the ends of its interval, that one's confidence and error, of _SPEEDUP
    _every: pd.DataFrame
    _place: slice

    @property
    def name(self) -> str:
        """The scheme, and by what it is told from others of its name."""
        return ", ".join(filter(None, [str(self.group["quant"]), str(self.group["variant"])]))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per M; slower than the arrays, where there are thousands of curves."""
        return self._every.iloc[self._place]

    @cached_property
    def case(self) -> Case:
        """Which of the cases the verdicts and medians make."""
        verdicts = {*self.verdicts}
        if len(verdicts) == 1 and verdicts <= {Verdict.HELPS, Verdict.HURTS, Verdict.NEUTRAL}:
            return Case(verdicts.pop())
        above = self.speedups[0] > 1
        if above.any() and not above.all():
            return Case.CROSSES
        case, clear = (Case.FASTER, Verdict.HELPS) if above.all() else (Case.SLOWER, Verdict.HURTS)
        return case if clear in verdicts else Case.UNCLEAR

    def crossings(self, seed: int = 0) -> list[Crossing]:
        """The break-even Ms; none where every run is within the margin, so that noise has no crossings."""
        if self.case is not Case.CROSSES:
            return []
        return crossings(curve(np.array(self.ms, dtype=np.float64), *self.speedups), seed=seed)

    @property
    def print(self) -> str:
        """Tells these numbers from others."""
        return md5(str(self.ms).encode() + self.speedups.tobytes(), usedforsecurity=False).hexdigest()


def shapes(frame: pd.DataFrame) -> Iterator[Shapes]:
    """The curves in a frame of standing runs, unquantized controls and runs of a busy machine left out."""
    runs = compared(layer_level(frame))
    runs = runs[(runs["quant"] != _CONTROL) & ~runs["withheld"]]
    runs = runs.sort_values("started_at", kind="stable").drop_duplicates([*GROUP, "M"], keep="last")
    runs = runs.sort_values([*GROUP, "M"], ignore_index=True)
    first = np.flatnonzero(~runs.duplicated(GROUP).to_numpy())
    groups = runs[GROUP].iloc[first].to_dict("records")
    ends = np.append(first, len(runs))[1:]
    ms, verdicts = runs["M"].astype("int64").tolist(), runs["verdict"].astype(str).tolist()
    speedups = np.ascontiguousarray(runs[list(_SPEEDUP)].to_numpy(dtype=np.float64).T)
    for group, start, end in zip(groups, first.tolist(), ends.tolist(), strict=True):
        named, place = {str(name): value for name, value in group.items()}, slice(start, end)
        yield Shapes(named, ms[place], verdicts[place], speedups[:, place], runs, place)


def breakeven_table(frame: pd.DataFrame, folder: Path | None = None, seed: int = 0) -> pd.DataFrame:
    """One row per crossing, and one for each curve without any: the case, the M with its intervals, in words.

    Args:
        frame: standing runs.
        folder: where the crossings of very many curves are kept; None: nowhere.
        seed: of the bootstrap that gives the intervals.
    """
    curves = [*shapes(frame)]
    found = known_crossings(curves, folder, seed)
    rows = [row for curve_, crossed in zip(curves, found, strict=True) for row in _rows(curve_, crossed)]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys([*_MS, "seen"], float))


def ranges(ms: Sequence[int], verdicts: Sequence[str]) -> str:
    """Where along M each verdict holds: ``helps at 1 and from 64 on, undecided at 4 to 16``.

    Args:
        ms: measured, rising; nothing is said of those between or beyond.
        verdicts: of each.
    """
    places: dict[str, list[str]] = {}
    for verdict, group in groupby(range(len(ms)), key=lambda place: verdicts[place]):
        members = [*group]
        places.setdefault(verdict, []).append(_place(members[0], members[-1], ms))
    told = [
        f"{says} {' and '.join(places[verdict])}" for verdict, says in _IN_WORDS.items() if verdict in places
    ]
    return ", ".join(told)


def _place(first: int, last: int, ms: Sequence[int]) -> str:
    if first == 0 and last == len(ms) - 1:
        return "at every measured M" if last else f"at {ms[0]}, the only M measured"
    if first == last:
        return f"at {ms[first]}"
    if first == 0:
        return f"up to {ms[last]}"
    return f"from {ms[first]} on" if last == len(ms) - 1 else f"at {ms[first]} to {ms[last]}"


def known_crossings(curves: Sequence[Shapes], folder: Path | None, seed: int) -> list[list[Crossing]]:
    """The crossings of each curve; of very many, those are kept that this program found of the same numbers."""
    if folder is None or len(curves) < _MANY:
        return [each.crossings(seed) for each in curves]
    found = pieces(
        folder,
        {"what": "crossings", "seed": seed},
        [f"{program()} {each.print}" for each in curves],
        lambda place: [asdict(crossing) for crossing in curves[place].crossings(seed)],
    )
    return [[_crossing(told) for told in each] for each in found]


def _crossing(told: dict[str, Any]) -> Crossing:
    return Crossing(**(told | {"direction": Direction(told["direction"])}))


def _rows(curve_: Shapes, found: Sequence[Crossing]) -> Iterator[dict[str, object]]:
    ms, (speedup, low, high, *_) = curve_.ms, curve_.speedups
    best = int(speedup.argmax())
    common = curve_.group | {
        "case": str(curve_.case),
        "m_min": ms[0],
        "m_max": ms[-1],
        "points": len(ms),
        "best": float(speedup[best]),
        "best_low": float(low[best]),
        "best_high": float(high[best]),
        "best_m": ms[best],
        "ranges": ranges(ms, curve_.verdicts),
    }
    if not found:
        yield common | {"says": _without_crossing(curve_)}
    edges = [0.0, *(crossing.m for crossing in found), np.inf]
    for index, crossing in enumerate(found):
        decided = _decided(curve_, crossing, edges[index], edges[index + 2])
        yield (
            common | _numbers(crossing) | {"decided": decided, "says": _crossing_in_words(crossing, decided)}
        )


def _numbers(crossing: Crossing) -> dict[str, object]:
    ms = (crossing.m, crossing.low, crossing.high, crossing.below, crossing.above)
    return dict(zip(_MS, (*ms, crossing.straight_low, crossing.straight_high), strict=True)) | {
        "direction": str(crossing.direction),
        "low_open": crossing.low_open,
        "high_open": crossing.high_open,
        "seen": crossing.seen,
    }


def _decided(curve_: Shapes, crossing: Crossing, left: float, right: float) -> bool:
    """Whether a run helps on the one side and a run hurts on the other, up to the neighbouring crossings."""
    each = [*zip(curve_.ms, curve_.verdicts, strict=True)]
    before = {verdict for m, verdict in each if left < m <= crossing.m}
    after = {verdict for m, verdict in each if crossing.m <= m < right}
    slow, fast = (before, after) if crossing.direction is Direction.UP else (after, before)
    return Verdict.HURTS in slow and Verdict.HELPS in fast


def _crossing_in_words(crossing: Crossing, decided: bool) -> str:
    text = f"turns {TURNS[crossing.direction]} {crossing_in_words(crossing)}"
    return text if decided else f"{text}, but not beyond the margin on both sides"


def _without_crossing(curve_: Shapes) -> str:
    ms, case = curve_.ms, curve_.case
    if len(ms) == 1:
        return f"{curve_.verdicts[0]} at M = {ms[0]}, the only M measured"
    span = f"M = {ms[0]}–{ms[-1]}"
    plain = {
        Case.HELPS: f"helps at every measured M ({span})",
        Case.HURTS: f"hurts at every measured M ({span})",
        Case.NEUTRAL: f"within the margin at every measured M ({span})",
        Case.UNCLEAR: f"not beyond the margin at any measured M ({span})",
    }
    if case in plain:
        return plain[case]
    clear = Verdict.HELPS if case is Case.FASTER else Verdict.HURTS
    count = curve_.verdicts.count(clear)
    return f"{case} at every measured M ({span}), beyond the margin at {count} of {len(ms)}"
