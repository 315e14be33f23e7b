"""Forecasts: a speedup with an interval and a verdict for a shape, or `unknown` and why nothing can be said."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from src.regimes.cells import PLACE, SHAPE, is_cpu
from src.regimes.family import Family, family
from src.regimes.kernels import kernel, like
from src.statistics.speedup import Verdict

UNKNOWN = "unknown"
Z = 1.645  # half of a normal's width that holds 90 %
_BEYOND = {"M": 4.0, "K": 3.0, "N": 3.0}  # times less or more than what was measured, that is still foretold
_FEWEST = 4  # cells of a kernel
_WIDEST = 0.45  # standard deviation of log speedup
_SURE = 0.6  # probability that a verdict needs
_OTHER_DEVICE = 0.08  # standard deviation of log speedup that another device's costs add


@dataclass(frozen=True)
class Query:
    """One shape that is asked for."""

    device: str
    compile: str
    dtype: str
    M: int
    K: int
    N: int
    quant: str


@dataclass(frozen=True)
class Forecast:
    """What is foretold; numbers are nan where it is unknown."""

    verdict: str
    speedup: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sure: float = math.nan  # probability of the verdict
    support: int = 0  # cells of the scheme's kernel on this device
    reason: str = ""  # of `unknown`; else what to mind


class Forecaster:
    """Everything that was fitted to a frame of cells.

    Args:
        cells: of own runs and imports (`src.regimes.cells`).
        margin: a speedup within it is neutral, relative.
    """

    def __init__(self, cells: pd.DataFrame, margin: float = 0.02) -> None:
        self.cells = cells.assign(compile=cells["compile"].map(like))
        self.margin = margin
        self._families: dict[tuple[bool, str, str], Family] = {}
        kinds = self.cells["device"].map(is_cpu)
        for (kind, mode, dtype), rows in self.cells.groupby([kinds, "compile", "dtype"], sort=False):
            self._families[bool(kind), str(mode), str(dtype)] = family(rows.reset_index(drop=True))

    def __call__(self, queries: list[Query]) -> pd.DataFrame:
        """One row per query: its place, shape and scheme, and the fields of its Forecast."""
        found = [forecast for query in queries for forecast in [self.one(query)]]
        rows = [asdict(query) | asdict(forecast) for query, forecast in zip(queries, found, strict=True)]
        return pd.DataFrame(rows, columns=[*PLACE, *SHAPE, "quant", *Forecast.__dataclass_fields__])

    def family(self, query: Query) -> Family | None:
        """What was fitted for the query's kind of device, compile mode and dtype."""
        return self._families.get((is_cpu(query.device), like(query.compile), query.dtype))

    def mode(self, query: Query) -> str:
        """The compile mode under which the query's kernels are known."""
        return like(query.compile)

    def families(self) -> Iterator[tuple[str, str, Family]]:
        """Compile mode, dtype and what was fitted for it."""
        for (_, mode, dtype), each in self._families.items():
            yield mode, dtype, each

    def one(self, query: Query) -> Forecast:
        """The forecast of one query."""
        fitted = self.family(query)
        if fitted is None:
            return Forecast(UNKNOWN, reason=self._no_family(query))
        name = kernel(query.quant, query.M, "cpu" if is_cpu(query.device) else "accelerator")
        rows = fitted.cells[fitted.cells["kernel"] == name]
        own = rows[rows["device"] == query.device]
        if why := _too_far(query, name, fitted, own if len(own) >= _FEWEST else rows):
            return Forecast(UNKNOWN, support=len(own), reason=why)
        shape = np.array([[query.M, query.K, query.N]], dtype=np.float64)
        mean, spread = (float(each[0]) for each in fitted.forecast(query.device, [name], shape))
        if own.empty:
            spread = math.hypot(spread, _OTHER_DEVICE)
        return self._told(mean, spread, len(own), _borrowed(query, own, rows))

    def _told(self, mean: float, spread: float, support: int, mind: str) -> Forecast:
        speedup, low, high = (math.exp(mean + sign * Z * spread) for sign in (0, -1, 1))
        if spread > _WIDEST:
            why = f"between {low:.2g} and {high:.2g} times: what was measured near it differs too much"
            return Forecast(UNKNOWN, support=support, reason=why)
        edge = math.log1p(self.margin)
        above, below = 1 - float(ndtr((edge - mean) / spread)), float(ndtr((-edge - mean) / spread))
        chances = {Verdict.HELPS: above, Verdict.HURTS: below, Verdict.NEUTRAL: 1 - above - below}
        likely = max(chances, key=lambda verdict: chances[verdict])
        verdict = likely if chances[likely] >= _SURE else Verdict.INCONCLUSIVE
        return Forecast(str(verdict), speedup, low, high, chances[likely], support, mind)

    def _no_family(self, query: Query) -> str:
        kind = self.cells[self.cells["device"].map(is_cpu) == is_cpu(query.device)]
        if kind.empty:
            return f"nothing was measured on a device like {query.device}"
        places = kind[["compile", "dtype"]].drop_duplicates().itertuples(index=False)
        has = ", ".join(f"compile={mode} dtype={dtype}" for mode, dtype in places)
        return f"nothing was measured at compile={query.compile} dtype={query.dtype}; there is {has}"


def _too_far(query: Query, name: str, fitted: Family, rows: pd.DataFrame) -> str:
    """Why nothing is foretold: no such kernel, too few cells, too far from them; empty where it is."""
    if rows.empty:
        others = sorted({str(k) for k in fitted.kernels})
        return f"no cell of {name} was measured; there are cells of {', '.join(others)}"
    here = (rows[SHAPE] == [query.M, query.K, query.N]).all(axis=1)
    if len(rows) < _FEWEST and not here.any():
        return f"{len(rows)} cell{'s' if len(rows) > 1 else ''} of {name}: at least {_FEWEST} are needed"
    for side, times in _BEYOND.items():
        low, high, value = int(rows[side].min()), int(rows[side].max()), getattr(query, side)
        if not low / times <= value <= high * times:
            return f"{side}={value:,} is more than {times:g} times beyond the {low:,}-{high:,} measured of {name}"
    return ""


def _borrowed(query: Query, own: pd.DataFrame, rows: pd.DataFrame) -> str:
    if len(own):
        return ""
    return f"from {', '.join(dict.fromkeys(rows['device']))}: nothing of {query.quant} was measured on {query.device}"
