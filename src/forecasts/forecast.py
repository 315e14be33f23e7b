"""Forecasts: a speedup with an interval and a verdict for a shape, or `unknown` and why nothing can be said."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import md5

import numpy as np
import pandas as pd
from scipy.special import ndtr

from src.forecasts.evidence.cells import PLACE, SHAPE, is_cpu, prints
from src.forecasts.evidence.kernels import like
from src.forecasts.family import Family, family
from src.forecasts.reach import Reach, Shape
from src.statistics.speedup import Verdict

UNKNOWN = "unknown"
Z = 1.645  # half of a normal's width that holds 90 %
_WIDEST = 0.45  # standard deviation of log speedup, unless the verdict is plain all the same
_PLAIN = 0.9  # probability of such a verdict
_MANY = 8  # cells of a scheme that, having one verdict, lend it to a shape among them
_OPEN = (UNKNOWN, str(Verdict.INCONCLUSIVE))
_SURE = 0.5  # probability that a verdict needs
_CERTAIN = 0.95  # that one needs which contradicts all cells of a scheme
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

    @property
    def shape(self) -> Shape:
        """Of its layer."""
        return self.M, self.K, self.N


@dataclass(frozen=True)
class Place:
    """Where a model runs."""

    device: str
    compile: str
    dtype: str

    def query(self, shape: Shape, quant: str) -> Query:
        """One layer there."""
        return Query(self.device, self.compile, self.dtype, *shape, quant)


@dataclass(frozen=True)
class Forecast:
    """What is predicted; numbers are nan where it is unknown."""

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
        cells: of own runs and imports (`src.forecasts.evidence.cells`).
        margin: a speedup within it is neutral, relative.
    """

    def __init__(self, cells: pd.DataFrame, margin: float = 0.02) -> None:
        self.cells = cells.assign(compile=cells["compile"].map(like))
        self.margin = margin
        kinds = self.cells["device"].map(is_cpu)
        groups = self.cells.groupby([kinds, "compile", "dtype"], sort=False)
        self._rows = {(bool(kind), str(mode), str(dtype)): rows for (kind, mode, dtype), rows in groups}
        self._families: dict[tuple[bool, str, str], Family] = {}  # fitted when they are asked

    def __call__(self, queries: list[Query]) -> pd.DataFrame:
        """One row per query: its place, shape and scheme, and the fields of its Forecast."""
        found: list[Forecast] = [Forecast(UNKNOWN)] * len(queries)
        alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for index, query in enumerate(queries):
            alike[query.device, query.compile, query.dtype].append(index)
        for members in alike.values():
            forecasts = self._alike([queries[index] for index in members])
            for index, forecast in zip(members, forecasts, strict=True):
                found[index] = forecast
        rows = [asdict(query) | asdict(forecast) for query, forecast in zip(queries, found, strict=True)]
        return pd.DataFrame(rows, columns=[*PLACE, *SHAPE, "quant", *Forecast.__dataclass_fields__])

    def family(self, query: Query) -> Family | None:
        """What was fitted for the query's kind of device, compile mode and dtype."""
        key = (is_cpu(query.device), like(query.compile), query.dtype)
        if key not in self._families and key in self._rows:
            self._families[key] = family(self._rows[key].reset_index(drop=True))
        return self._families.get(key)

    def mode(self, query: Query) -> str:
        """The compile mode under which the query's kernels are known."""
        return like(query.compile)

    def together(self) -> Iterator[pd.DataFrame]:
        """The cells that are fitted together: of one kind of device, compile mode and dtype."""
        yield from self._rows.values()

    def rests_on(self, place: Place) -> str:
        """Tells what forecasts for a place rest on from anything else, as far as `prints` tell cells apart."""
        rows = self._rows.get((is_cpu(place.device), like(place.compile), place.dtype))
        each = b"" if rows is None else prints(rows).tobytes()
        return md5(each + str(self.margin).encode(), usedforsecurity=False).hexdigest()

    def one(self, query: Query) -> Forecast:
        """The forecast of one query."""
        return self._alike([query])[0]

    def _alike(self, queries: list[Query]) -> list[Forecast]:
        """The forecasts of queries of one device, compile mode and dtype."""
        fitted = self.family(queries[0])
        if fitted is None:
            return [Forecast(UNKNOWN, reason=self._no_family(queries[0]))] * len(queries)
        names = [fitted.kernels_of(query.quant, query.M) for query in queries]
        asked = [
            (_where_measured(query, name, fitted) if len(either) > 1 else query, name)
            for query, either in zip(queries, names, strict=True)
            for name in either
        ]
        found = iter(self._by_kernel(fitted, asked))
        told = [_either([next(found) for _ in each], each) for each in names]
        return [self._unanimous(each, query, fitted) for query, each in zip(queries, told, strict=True)]

    def _by_kernel(self, fitted: Family, asked: list[tuple[Query, str]]) -> list[Forecast]:
        """The forecasts of queries of one device, each by the kernel beside it."""
        device = asked[0][0].device
        placed = [fitted.reached(device, name, query.shape) for query, name in asked]
        found = [Forecast(UNKNOWN, support=own.cells if own else 0, reason=why) for own, _, why in placed]
        near = [index for index, each in enumerate(placed) if not each.why]
        queries, names = [asked[index][0] for index in near], [asked[index][1] for index in near]
        sources = [placed[index].source for index in near]
        shapes = np.array([query.shape for query in queries], dtype=np.float64).reshape(-1, len(SHAPE))
        measured = shapes.copy()
        measured[:, 0] = [
            fitted.reaches[name, source].nearest(query.M)
            for query, name, source in zip(queries, names, sources, strict=True)
        ]
        means, spreads = fitted.forecast(device, names, sources, shapes, measured)
        for index, mean, spread in zip(near, means.tolist(), spreads.tolist(), strict=True):
            (query, name), here = asked[index], placed[index].own
            own = fitted.reaches.get((name, device))
            wider = math.hypot(spread, 0.0 if here else _OTHER_DEVICE)
            mind = "" if here else _borrowed(query, fitted.reaches[name, ""])
            found[index] = self.told(mean, wider, own.cells if own else 0, mind)
        return found

    def _unanimous(self, told: Forecast, query: Query, fitted: Family) -> Forecast:
        """Where a forecast leaves the verdict open, that of all the scheme's cells around it if they have only one.

        They hold the numbers within what they showed. What contradicts all of them stays open unless nearly certain.
        """
        reach, least, most = fitted.schemes.get((query.quant, query.device), (None, 0.0, 0.0))
        if reach is None or reach.cells < _MANY:
            return told
        edge = math.log1p(self.margin)
        only = Verdict.HELPS if least > edge else Verdict.HURTS if most < -edge else None
        if only and told.verdict not in (*_OPEN, only) and told.sure < _CERTAIN:
            said = f"all {reach.cells} cells of {query.quant} say {only}"
            return replace(told, verdict=str(Verdict.INCONCLUSIVE), reason=told.reason or said)
        if told.verdict not in _OPEN or not reach.holds(query.shape):
            return told
        mean = math.log(told.speedup)
        if (least > edge and mean > 0) or (most < -edge and mean < 0):
            speedup, low, high = np.clip(
                (told.speedup, told.low, told.high), math.exp(least), math.exp(most)
            ).tolist()
            verdict = str(Verdict.HELPS if least > edge else Verdict.HURTS)
            said = f"as all {reach.cells} cells of {query.quant}; how much is uncertain"
            sure = (reach.cells + 1) / (reach.cells + 2)
            return Forecast(verdict, speedup, low, high, sure, told.support, said)
        return told

    def told(self, mean: float, spread: float, support: int, mind: str) -> Forecast:
        """A forecast by its mean and spread of log speedup."""
        speedup, low, high = (math.exp(mean + sign * Z * spread) for sign in (0, -1, 1))
        edge = math.log1p(self.margin)
        above, below = 1 - float(ndtr((edge - mean) / spread)), float(ndtr((-edge - mean) / spread))
        chances = {Verdict.HELPS: above, Verdict.HURTS: below, Verdict.NEUTRAL: 1 - above - below}
        likely = max(chances, key=lambda verdict: chances[verdict])
        verdict = str(likely) if chances[likely] >= _SURE else str(Verdict.INCONCLUSIVE)
        if spread > _WIDEST and chances[likely] < _PLAIN:
            verdict = UNKNOWN
            mind = f"{low:.2g} to {high:.2g} times: what was measured near it differs too much"
        return Forecast(verdict, speedup, low, high, chances[likely], support, mind)

    def _no_family(self, query: Query) -> str:
        kind = self.cells[self.cells["device"].map(is_cpu) == is_cpu(query.device)]
        if kind.empty:
            return f"nothing was measured on a device like {query.device}"
        places = kind[["compile", "dtype"]].drop_duplicates().itertuples(index=False)
        has = ", ".join(f"compile={mode} dtype={dtype}" for mode, dtype in places)
        return f"nothing was measured at compile={query.compile} dtype={query.dtype}; there is {has}"


def _where_measured(query: Query, name: str, fitted: Family) -> Query:
    """The query at the nearest M at which a kernel was measured: where it may have switched, it is not followed."""
    return replace(query, M=fitted.reaches[name, ""].nearest(query.M))


def _either(found: list[Forecast], names: list[str]) -> Forecast:
    """Of the two kernels that a shape may be computed by: what both say, else that they do not agree."""
    if len(found) == 1:
        return found[0]
    below, above = found
    if math.isnan(below.speedup) or math.isnan(above.speedup):
        return below if math.isnan(below.speedup) else above
    mind = f"the kernel switches somewhere between {names[0]} and {names[1].rpartition(', ')[2]}"
    verdict = below.verdict
    if below.verdict != above.verdict:
        told = (f"{each.verdict} {each.speedup:.2f}×" for each in found)
        verdict, mind = UNKNOWN, f"{mind}: {' or '.join(told)}"
    return Forecast(
        verdict=verdict,
        speedup=math.sqrt(below.speedup * above.speedup),
        low=min(below.low, above.low),
        high=max(below.high, above.high),
        sure=min(below.sure, above.sure) if verdict == below.verdict else 0.5,
        support=below.support + above.support,
        reason=mind,
    )


def _borrowed(query: Query, reach: Reach) -> str:
    others = ", ".join(device for device in reach.devices if device != query.device)
    near = " near it" if query.device in reach.devices else ""
    return f"from {others}: nothing of {query.quant} was measured{near} on {query.device}"
