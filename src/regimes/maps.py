"""Regime maps: of each scheme on each device what was measured and predicted over M and K x N, and models' layers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from src.analysis.runs.frame import layer_level
from src.analysis.runs.tracked.kept import pieces
from src.config.program import program
from src.forecasts.evidence.cells import OWN
from src.forecasts.evidence.kernels import like
from src.forecasts.forecast import UNKNOWN, Forecaster, Place
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.layers import ModelLayer
from src.statistics.speedup import Verdict

_CONTROL = "none"
_STEPS = (20, 14)  # of the predicted ground: along K x N, along M
_FARTHEST = (
    2.0  # times M, K and N of the cells, as far as ground is predicted: a forecast from afar is no map
)
_AIR = 1.35  # beyond what is drawn along K x N, times
_TALL = 1.8  # the same along M
_MANY = 2000  # cells; of fewer the ground is predicted each time
_SIDE = 16  # sides of predicted layers are its multiples
_COLUMNS = ["device", "compile", "dtype", "quant", "M", "K", "N", "status", "speedup", "low", "high"]
_COLUMNS += ["source", "reason"]
Span = tuple[float, float]


@dataclass(frozen=True)
class Ground:
    """A piece of the map with one predicted verdict: of square layers, K x N from x0 to x1, M from y0 to y1."""

    x0: float
    x1: float
    y0: float
    y1: float
    verdict: str


@dataclass(frozen=True)
class RegimeMap:
    """One scheme, with its options, in one place; spans are alike for all maps of a place."""

    place: Place
    quant: str
    cells: pd.DataFrame  # of _COLUMNS
    layers: Sequence[ModelLayer]
    kn_span: Span
    m_span: Span

    def rests_on(self, forecaster: Forecaster) -> str:
        """Tells what the ground rests on from anything else."""
        told = f"{self.place} {self.quant} {self._sides()} {forecaster.rests_on(self.place)} {program()}"
        return sha256(told.encode()).hexdigest()

    def ground(self, forecaster: Forecaster) -> list[Ground]:
        """What is predicted of square layers around the cells; nothing where it is unknown."""
        x, y = self._sides()
        xs, ys = np.geomspace(*x, _STEPS[0] + 1), np.geomspace(*y, _STEPS[1] + 1)
        shapes = [
            _square(math.sqrt(a * b), math.sqrt(c * d)) for c, d in pairwise(ys) for a, b in pairwise(xs)
        ]
        asked = [self.place.query(shape, self.quant) for shape in shapes]
        told = forecaster(asked)["verdict"].to_numpy().reshape(_STEPS[1], _STEPS[0])
        return [
            Ground(float(xs[left]), float(xs[right]), float(ys[low]), float(ys[high]), verdict)
            for left, right, low, high, verdict in _pieces(told.tolist())
        ]

    def _sides(self) -> tuple[Span, Span]:
        """Of the ground: from and to which K x N, and which M."""
        kn = self.cells["K"] * self.cells["N"]
        x = _near(kn, _FARTHEST**2, self.kn_span)
        return x, _near(self.cells["M"], _FARTHEST, self.m_span)


def grounds(
    maps: Sequence[RegimeMap], knowledge: Knowledge | None, folder: Path | None
) -> list[list[Ground]]:
    """The ground of each map; where there are very many cells one that rests on the same as before is kept.

    Args:
        maps: of any places.
        knowledge: what predicts; None: there is no ground.
        folder: of everything that is kept; None: nothing is.
    """
    if knowledge is None:
        return [[] for _ in maps]
    folder = folder if len(knowledge.measured) >= _MANY else None
    by = [knowledge.of(each.place.device) for each in maps]
    prints = [each.rests_on(told) if folder else "" for each, told in zip(maps, by, strict=True)]
    found = pieces(
        folder, {"what": "grounds"}, prints, lambda place: [*map(asdict, maps[place].ground(by[place]))]
    )
    return [[Ground(**piece) for piece in each] for each in found]


def map_cells(runs: pd.DataFrame, published: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Own runs of single layers, those without a speedup too, and what others published: one row each.

    Args:
        runs: standing.
        published: cells, a verdict of each of which is told by its point alone.
        margin: a speedup within it is neutral.
    """
    own = layer_level(runs)
    own = own[own["quant"] != _CONTROL]
    parts = zip(own["quant"], own["variant"], strict=True)
    named = [f"{quant} ({variant})" if variant else quant for quant, variant in parts]
    numbers = {"speedup/ratio": "speedup", "speedup/ci_low": "low", "speedup/ci_high": "high"}
    told = own["verdict"].astype(object).where(own["verdict"] != "", own["outcome"].astype(object))
    own = own.rename(columns=numbers).assign(
        quant=named, status=told, source=OWN, compile=own["compile"].map(like)
    )
    by_point = [_by_point(ratio, margin) for ratio in published["speedup"]]
    beside = published.assign(status=by_point, reason="", compile=published["compile"].map(like))
    both = [part[_COLUMNS] for part in (own, beside) if len(part)]
    found = pd.concat(both, ignore_index=True) if both else pd.DataFrame(columns=_COLUMNS)
    return found.astype(dict.fromkeys("MKN", "int64"))


def regime_maps(cells: pd.DataFrame, layers: Sequence[ModelLayer]) -> Iterator[RegimeMap]:
    """A map per place and scheme that has a cell with a speedup."""
    for values, there in cells.groupby(["device", "compile", "dtype"]):
        place = Place(*(str(value) for value in values))
        own = [layer for layer in layers if layer.place == place]
        spans = _spans(there, own)
        for quant, rows in there.groupby("quant"):
            if rows["speedup"].notna().any():
                yield RegimeMap(place, str(quant), rows, own, *spans)


def inside(layers: Sequence[ModelLayer], cells: pd.DataFrame) -> list[ModelLayer]:
    """The layers whose M and K x N lie within those of the cells."""
    kn = cells["K"] * cells["N"]
    return [
        each
        for each in layers
        if cells["M"].min() <= each.M <= cells["M"].max() and kn.min() <= each.K * each.N <= kn.max()
    ]


def _spans(cells: pd.DataFrame, layers: Sequence[ModelLayer]) -> tuple[Span, Span]:
    kn = [*(cells["K"] * cells["N"]), *(each.K * each.N for each in layers)]
    ms = [*cells["M"], *(each.M for each in layers)]
    return (min(kn) / _AIR**2, max(kn) * _AIR**2), (min(ms) / _TALL, max(ms) * _TALL)


def _near(values: "pd.Series[int]", times: float, span: Span) -> Span:
    """From below the values to above them, within the map."""
    return float(max(span[0], values.min() / times)), float(min(span[1], values.max() * times))


def _square(kn: float, m: float) -> tuple[int, int, int]:
    side = max(_SIDE, round(math.sqrt(kn) / _SIDE) * _SIDE)
    return max(1, round(m)), side, side


def _pieces(rows: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, int, int, str]]:
    """Left, right, lower and upper edge of each rectangle of one verdict; unknown ones left out."""
    growing: dict[tuple[int, int, str], int] = {}  # stretch -> lower edge
    for index, row in enumerate([*rows, []]):
        stretches = {*_stretches(row)}
        for stretch in [each for each in growing if each not in stretches]:
            left, right, verdict = stretch
            yield left, right, growing.pop(stretch), index, verdict
        for stretch in sorted(stretches - growing.keys()):
            growing[stretch] = index


def _stretches(row: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """First and last edge of each stretch of one verdict, unknown ones left out."""
    first = 0
    for verdict, members in groupby(row):
        last = first + len([*members])
        if verdict != UNKNOWN:
            yield first, last, verdict
        first = last


def _by_point(ratio: float, margin: float) -> str:
    if ratio > 1 + margin:
        return str(Verdict.HELPS)
    return str(Verdict.HURTS if ratio * (1 + margin) < 1 else Verdict.NEUTRAL)
