"""What runs say of themselves, as far as an analysis can still say it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.statistics.speedup import Verdict, margin_text

BUSY = "other processes kept the machine busy"
_DISTURBED = {  # what stands in a reason -> why its verdict is withheld, and what to do
    "other processes": (BUSY, "the same command measures them again"),
    "slowed itself down": (
        "the device slowed itself down",
        "better cooling or a lower power limit, then the same command",
    ),
    "compiled again": (
        "graphs were compiled again while rounds were timed",
        "TORCH_LOGS=recompiles says which guard failed",
    ),
}
_OTHERWISE = "as the runs themselves did", "the same command measures them again"
_CROSSING = re.compile(
    r"the interval [\d.]+-[\d.]+ (?:from \d+ processes )?crosses the margin of [\d.]+%"
    r"(?:; measuring ended by [^;]*)?(?:; measured in turn, it holds a drift [^;]*)?"
)
_NARROWS = {
    "a larger measure.budget_s, or measure=standard",
    "a device that holds both arms (measure.pairing=interleaved)",
    "a larger measure.processes",
}


def disturbances(reasons: Iterable[str]) -> "Counter[tuple[str, str]]":
    """Why verdicts are withheld and what helps, and how many for that."""
    return Counter(_disturbance(str(reason)) for reason in reasons)


def is_busy(reason: str) -> bool:
    """Whether a verdict is withheld for other processes."""
    return _disturbance(reason)[0] == BUSY


def _disturbance(reason: str) -> tuple[str, str]:
    return next((told for name, told in _DISTURBED.items() if name in reason), _OTHERWISE)


def retell(frame: pd.DataFrame, margin: float) -> None:
    """What a run said of its interval and margin, as this analysis has them: it pools, widens, asks another margin.

    Beside a decided verdict it says nothing, nor how to decide it; an open one is told with its interval here.

    Args:
        frame: rows with `verdict` and the run's own, `recorded`; `reason` and `remedy` are changed.
        margin: of the verdicts.
    """
    crosses = frame["reason"].str.contains("crosses the margin", regex=False).fillna(False).astype(bool)
    opened = (frame["verdict"] == Verdict.INCONCLUSIVE) & (frame["recorded"] != Verdict.INCONCLUSIVE)
    at = np.flatnonzero((frame["verdict"] != "") & ~frame["withheld"] & (crosses | opened))
    if not len(at):
        return
    rows = frame[["reason", "remedy", "verdict", "speedup/ci_low", "speedup/ci_high"]].iloc[at]
    told = margin_text(margin)
    each = zip(*(rows[name] for name in rows), strict=True)
    found = [_retold(reason, remedy, said, low, high, told) for reason, remedy, said, low, high in each]
    for name, texts in zip(("reason", "remedy"), zip(*found, strict=True), strict=True):
        frame[name] = _with(frame[name], at, texts)


def _with(column: "pd.Series[str]", at: npt.NDArray[np.intp], texts: Sequence[str]) -> "pd.Series[str]":
    """A column with other texts in some places."""
    every = column.to_numpy(dtype=object).copy()
    every[at] = texts
    return pd.Series(every, column.index, dtype=column.dtype)


def _retold(reason: str, remedy: str, verdict: str, low: float, high: float, margin: str) -> tuple[str, str]:
    is_open = verdict == Verdict.INCONCLUSIVE
    told = f"the interval {low:.3f}-{high:.3f} crosses the margin of {margin}" if is_open else ""
    found = _CROSSING.search(reason or "")
    if found is not None and is_open and found[0].startswith(told):
        return reason, remedy  # it is as it was, with how measuring ended
    reasons = filter(None, [told, *_CROSSING.sub("", reason or "").split("; ")])
    remedies = [part for part in (remedy or "").split("; ") if part and (is_open or part not in _NARROWS)]
    return "; ".join(reasons), "; ".join(remedies)
