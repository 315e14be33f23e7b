"""Whether forecasts hold where nothing was measured: cells left out, predicted, and compared; rivals beside them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.forecasts.costs import Array
from src.forecasts.evidence.cells import PLACE, SHAPE, is_cpu
from src.forecasts.forecast import UNKNOWN, Forecaster, Query
from src.regimes.rivals import RIVALS, Said

FAR = 0.10  # cells farther from 1 must get the right verdict
FITTED = "fitted costs"
DEVICE = "one device"
_OPINION = ("helps", "hurts", "neutral")
Keys = Callable[[pd.DataFrame], "pd.Series[str]"]
Parts = list[npt.NDArray[np.bool_]]  # of the cells those that are left out together
Leaving = Callable[[pd.DataFrame, int | None], tuple[int, Parts]]  # how many things, in which parts


def _joined(*names: str) -> Keys:
    return lambda cells: cells[list(names)].astype(str).agg("×".join, axis=1)


def _each(keys_of: Keys) -> Leaving:
    """Every thing once, alone or with others of its part."""

    def leave(cells: pd.DataFrame, most: int | None) -> tuple[int, Parts]:
        keys = keys_of(cells)
        order = {key: number for number, key in enumerate(sorted(set(keys), key=lambda key: (len(key), key)))}
        parts = np.array([order[key] % (most or len(order)) for key in keys], dtype=np.int64)
        return len(order), [parts == part for part in np.unique(parts)]

    return leave


def _beyond(above: bool) -> Leaving:
    """All M above, or below, each M that was measured: at the ends of a range there is a cell on one side alone."""

    def leave(cells: pd.DataFrame, most: int | None) -> tuple[int, Parts]:
        edges = np.unique(cells["M"])[:-1]
        if most and len(edges) > most:
            edges = edges[np.linspace(0, len(edges) - 1, most + 2)[1:-1].astype(int)]
        larger = [(cells["M"] > edge).to_numpy() for edge in edges]
        return len(edges), larger if above else [~each for each in larger]

    return leave


LEFT_OUT: dict[str, Leaving] = {
    "one shape": _each(_joined(*SHAPE)),
    "one (K, N)": _each(_joined("K", "N")),
    "one M": _each(_joined("M")),
    "all larger M": _beyond(above=True),
    "all smaller M": _beyond(above=False),
    # layers of a width are of a model
    "one model": _each(lambda cells: cells[["K", "N"]].min(axis=1).astype(str)),
    DEVICE: _each(lambda cells: cells["device"]),
}


@dataclass(frozen=True)
class Trial:
    """How one way of predicting did when a kind of thing was left out; shares are of cells."""

    left_out: str
    way: str
    cells: int
    far: int  # cells more than 10 % away from 1
    right: float  # of these, with the right verdict
    wrong: float  # of these, with a wrong one; the rest were left open or unknown
    unknown: float  # of all cells
    error: float  # median of |predicted / measured - 1|; nan where a way has no speedups
    within: float  # of cells with a speedup, those predicted within 25 %
    covered: float  # of them, those whose interval holds the measured speedup; nan without intervals
    things: int = 0  # that were left out
    folds: int = 0  # in so many parts


def trials(
    cells: pd.DataFrame, margin: float, most_folds: int | None = None, left_out: Sequence[str] = (*LEFT_OUT,)
) -> list[Trial]:
    """Every way of leaving out x every way of predicting.

    Args:
        cells: of any devices; the others' cells of what is left out are left out, too.
        margin: a speedup within it is neutral.
        most_folds: into how many parts all things are put, each left out whole; None: each thing alone.
        left_out: of LEFT_OUT.
    """
    found = []
    for name in left_out:
        among = _with_others(cells) if name == DEVICE else cells
        things, parts = LEFT_OUT[name](among, most_folds)
        if parts := [part for part in parts if not part.all()]:
            tried = _of(name, among, parts, margin)
            found += [replace(each, things=things, folds=len(parts)) for each in tried]
    return found


def _with_others(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of devices that there is another one of their kind beside."""
    kinds = cells["device"].map(is_cpu)
    return cells[cells["device"].groupby(kinds).transform("nunique") > 1].reset_index(drop=True)


def _of(name: str, cells: pd.DataFrame, parts: Parts, margin: float) -> list[Trial]:
    tested, fitted, rivals = [], [], {way: list[Said]() for way in RIVALS}
    for part in parts:
        train, test = cells[~part], cells[part]
        tested.append(test)
        fitted.append(Forecaster(train, margin)([Query(*row) for row in _asked(test)]))
        for way, rival in RIVALS.items():
            rivals[way].append(_among_alike(rival, train, test, margin))
    truth, predicted = pd.concat(tested), pd.concat(fitted)
    own = Said(predicted["verdict"].to_numpy(dtype=str), predicted["speedup"].to_numpy())
    span = predicted[["low", "high"]].to_numpy()
    others = [_trial(name, way, truth, _together(said)) for way, said in rivals.items()]
    return [_trial(name, FITTED, truth, own, span), *others]


def _together(said: list[Said]) -> Said:
    return Said(
        np.concatenate([each.verdict for each in said]), np.concatenate([each.speedup for each in said])
    )


def _asked(test: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """The fields of a Query, in their order."""
    return test[[*PLACE, *SHAPE, "quant"]].itertuples(index=False, name=None)


def _among_alike(
    rival: Callable[[pd.DataFrame, pd.DataFrame, float], Said],
    train: pd.DataFrame,
    test: pd.DataFrame,
    margin: float,
) -> Said:
    """A rival's word on each cell, from the cells of its kind of device, compile mode and dtype."""
    verdict, speedup = np.full(len(test), "neutral", dtype="<U12"), np.full(len(test), np.nan)
    kinds = test["device"].map(is_cpu).to_numpy()
    for kind, mode, dtype in {*zip(kinds, test["compile"], test["dtype"], strict=True)}:
        alike = [
            (frame["device"].map(is_cpu) == kind) & (frame["compile"] == mode) & (frame["dtype"] == dtype)
            for frame in (train, test)
        ]
        if alike[0].any():
            said = rival(train[alike[0]], test[alike[1]], margin)
            verdict[alike[1].to_numpy()], speedup[alike[1].to_numpy()] = said.verdict, said.speedup
    return Said(verdict, speedup)


def _trial(left_out: str, way: str, truth: pd.DataFrame, said: Said, span: Array | None = None) -> Trial:
    speedup, word = truth["speedup"].to_numpy(), said.verdict
    far = np.abs(np.log(speedup)) > math.log1p(FAR)
    right = word == np.where(speedup > 1, "helps", "hurts")
    opinion = np.isin(word, _OPINION)
    off = np.abs(said.speedup / speedup - 1)
    known = np.isfinite(off)
    held = (span[:, 0] <= speedup) & (speedup <= span[:, 1]) if span is not None else None
    return Trial(
        left_out=left_out,
        way=way,
        cells=len(truth),
        far=int(far.sum()),
        right=_share(right[far]),
        wrong=_share((opinion & ~right)[far]),
        unknown=_share(word == UNKNOWN),
        error=float(np.median(off[known])) if known.any() else math.nan,
        within=_share(off[known] <= 0.25),
        covered=_share(held[known]) if held is not None else math.nan,
    )


def _share(hits: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(hits)) if len(hits) else math.nan
