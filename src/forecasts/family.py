"""All that is fitted together: the cells of one compile mode and dtype on devices of one kind."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from src.forecasts.arms import Arms, kind_of, shapes_of
from src.forecasts.costs import Array, Costs
from src.forecasts.evidence.cells import OWN, SHAPE, standard_errors, weights
from src.forecasts.evidence.kernels import Switch, known_switch
from src.forecasts.reach import Reach, Shape
from src.forecasts.residuals import Correction, Labels, Points, Smoothness
from src.forecasts.switches import seen_switches

COVERAGE = 0.9  # of an interval
_Z = 1.645  # half of a normal's width that holds it
_MOST = 1200  # cells that a correction is made of
_LEAST_WIDENING = 0.8
_REFITTED = 1.1  # the costs were fitted with what is left out there
_FEW, _UNTESTED = 6, 1.5  # fewer cells do not tell how wide; then this
_TELLING = 12  # cells of a kernel that tell it of their own


class Reached(NamedTuple):
    """What tells of a shape."""

    own: Reach | None  # the device's own cells, if they do
    source: str  # the device whose costs are taken
    why: str = ""  # nothing does


@dataclass(frozen=True)
class Family:
    """Devices of one kind, cells of one compile mode and dtype."""

    cells: pd.DataFrame  # one row per device, kernel and shape; with `kernel`, `log`, `weight`, `error`
    switches: dict[str, Switch] = field(default_factory=dict)  # by scheme
    smooth: Smoothness = field(default_factory=Smoothness)
    fitted: dict[tuple[str, str], Costs] = field(default_factory=dict)  # of the arms, what is known already

    @cached_property
    def devices(self) -> list[str]:
        """In the order met."""
        return list(dict.fromkeys(self.cells["device"]))

    @cached_property
    def kernels(self) -> list[str]:
        """In the order met."""
        return list(dict.fromkeys(self.cells["kernel"]))

    @cached_property
    def arms(self) -> Arms:
        """What they cost."""
        return Arms(self.cells, self.fitted)

    @cached_property
    def correction(self) -> Correction:
        """The process over what the costs leave."""
        rows = self.cells
        if len(rows) > _MOST:
            rows = rows.sample(_MOST, random_state=0).sort_index()
        points = self.points(rows["device"], rows["kernel"], shapes_of(rows))
        return Correction(points, self.left[rows.index], rows["weight"].to_numpy(), self.smooth)

    @cached_property
    def left(self) -> Array:
        """Of each cell's log speedup, what the costs leave."""
        return np.asarray(self.cells["log"].to_numpy() - self._physical(self.cells))

    def kernels_of(self, quant: str, m: int) -> list[str]:
        """The kernels that may compute M rows: one, or two where it is not known where the scheme switches."""
        return self.switches[quant].names(quant, m) if quant in self.switches else [quant]

    @cached_property
    def widening(self) -> Array:
        """Per kernel, by how much intervals must be wider to hold cells whose (K, N), or M, is left out.

        A kernel of few cells is as all are.
        """
        points = self.correction.points
        shapes = points.shapes.tolist()
        ways = ([tuple(sides) for _, *sides in shapes], [m for m, *_ in shapes])
        ratios = [
            np.abs(error) / spread for error, spread in map(self.correction.left_out, map(_numbers, ways))
        ]
        everywhere = _wider(ratios) if len(shapes) >= _FEW else _UNTESTED
        return np.array(
            [
                _wider([each[among] for each in ratios]) if among.sum() >= _TELLING else everywhere
                for among in (points.kernel == number for number in range(len(self.kernels)))
            ]
        )

    def forecast(
        self, device: str, names: Sequence[str], sources: Sequence[str], shapes: Array, nearest: Array
    ) -> tuple[Array, Array]:
        """Mean and standard deviation of the log speedup of each shape by the kernel beside it.

        Args:
            device: of all of them.
            names: kernels.
            sources: devices by whose costs of these.
            shapes: (shapes, 3), columns M, K, N.
            nearest: beside each the nearest one with as many rows as were measured.
        """
        mean, grown = np.empty(len(names)), np.zeros(len(names))
        kernel, source = np.array(names), np.array(sources)
        beyond = (shapes != nearest).any(axis=1)
        for name, known in set(zip(names, sources, strict=True)):
            members = (kernel == name) & (source == known)
            mean[members] = self._log(known, name, shapes[members])
            grown[members] = self.arms.costs(known, name)[0].unsettled(shapes[members])
            far = beyond & members
            grown[far] += sum(
                each.of_growth(shapes[far], nearest[far]) for each in self.arms.doubts(known, name)
            )
        moved, spread = self.correction.at(self.points([device] * len(names), names, shapes))
        wider = spread * np.array([self.widening[self.kernels.index(name)] for name in names])
        return mean + moved, np.sqrt(wider**2 + grown)

    @cached_property
    def reaches(self) -> dict[tuple[str, str], Reach]:
        """Per kernel and device, and per kernel on all devices (""), where it was measured."""
        found = {(str(k), str(d)): Reach(rows) for (k, d), rows in self.cells.groupby(["kernel", "device"])}
        return found | {(str(k), ""): Reach(rows) for k, rows in self.cells.groupby("kernel")}

    def reached(self, device: str, name: str, shape: Shape) -> Reached:
        """Whose cells of a kernel reach a shape: a device's own, or another's where its own are few or far.

        A cell more never makes it known less.
        """
        own, every = (self.reaches.get((name, where)) for where in (device, ""))
        if every is None:
            there = "; ".join(sorted(self.kernels))
            return Reached(own, device, f"no cell of {name} was measured; there are cells of {there}")
        others = [each for each in every.devices if each != device]
        for where in [device] * (own is not None and not own.few) + others:
            if not self._too_far(where, name, shape):
                return Reached(own if where == device else None, where)
        where = device if own else others[0]
        why = every.too_far(name, shape, self.arms.grow(where, name))
        return Reached(own if why or not others else None, where, why)

    def _too_far(self, device: str, name: str, shape: Shape) -> str:
        return self.reaches[name, device].too_far(name, shape, self.arms.grow(device, name))

    @cached_property
    def schemes(self) -> dict[tuple[str, str], tuple[Reach, float, float]]:
        """Per scheme and device: where it was measured, and the least and largest log speedup."""
        return {
            (str(quant), str(device)): (Reach(rows), float(rows["log"].min()), float(rows["log"].max()))
            for (quant, device), rows in self.cells.groupby(["quant", "device"])
        }

    def points(self, devices: Iterable[str], names: Iterable[str], shapes: Array) -> Points:
        """Labels as numbers; a device or kernel that is not known has the next one."""
        d, k = ({name: i for i, name in enumerate(known)} for known in (self.devices, self.kernels))
        labels = [[of.get(name, len(of)) for name in given] for of, given in ((d, devices), (k, names))]
        return Points(shapes, *(np.array(each, dtype=np.int64) for each in labels))

    def _physical(self, rows: pd.DataFrame) -> Array:
        """Log speedups by the costs alone."""
        found = np.empty(len(rows))
        for (device, name), members in rows.reset_index(drop=True).groupby(["device", "kernel"], sort=False):
            found[members.index] = self._log(str(device), str(name), shapes_of(members))
        return found

    def _log(self, device: str, name: str, shapes: Array) -> Array:
        base, treated = self.arms.costs(device, name)
        return np.log(base.time_us(shapes) / treated.time_us(shapes))


def family(cells: pd.DataFrame, smooth: Smoothness | None = None) -> Family:
    """The family of these cells: those of one device, scheme and shape made one, kernels that switch told apart."""
    first = as_told(cells, smooth)
    seen = dict(seen_switches(first.cells, first.left))
    if not seen:
        return first
    fitted = {key: costs for key, costs in first.arms.treated.items() if key[1] not in seen}
    return replace(_labelled(first.cells, first.switches | seen, first.smooth), fitted=fitted)


def as_told(cells: pd.DataFrame, smooth: Smoothness | None = None) -> Family:
    """The same with the kernels told apart that source code tells: nothing is fitted for that."""
    kind, rows = kind_of(str(cells["device"].iloc[0])), _one_each(cells)
    known = {str(quant): known_switch(str(quant), kind) for quant in rows["quant"].unique()}
    switches = {quant: switch for quant, switch in known.items() if switch}
    return _labelled(rows, switches, smooth or _smoothness(rows))


def _smoothness(rows: pd.DataFrame) -> Smoothness:
    """As rough as times are: by how much those of the same unquantized layer differ between runs."""
    usual = Smoothness()
    log = np.log(rows["baseline_ms"])
    scatter = log.groupby([rows["device"], *(rows[side] for side in SHAPE)]).var(ddof=1).dropna()
    return replace(usual, noise=max(usual.noise, math.sqrt(scatter.mean()))) if len(scatter) else usual


def _one_each(cells: pd.DataFrame) -> pd.DataFrame:
    rows = cells.assign(
        log=np.log(cells["speedup"]),
        weight=weights(cells),
        error=standard_errors(cells),
        own=cells["source"] == OWN,
    )
    key = ["device", "quant", *SHAPE]
    rows = rows[
        rows["own"] | ~rows.groupby(key)["own"].transform("any")
    ]  # what was measured here needs no other
    kept = dict.fromkeys(["log", "baseline_ms", "treated_ms"], "median")
    kept |= {"dtype": "first", "weight": "sum", "error": "max", "own": "any"}
    return rows.groupby(key, sort=False).agg(kept).reset_index()


def _labelled(rows: pd.DataFrame, switches: dict[str, Switch], smooth: Smoothness) -> Family:
    names = [
        switches[quant].names(quant, m)[0] if quant in switches else quant
        for quant, m in zip(rows["quant"], rows["M"], strict=True)
    ]
    return Family(rows.assign(kernel=names), switches, smooth)


def _wider(ratios: Sequence[Array]) -> float:
    """From errors over spreads of several ways of leaving out: what the worst of them asks for."""
    return max(_LEAST_WIDENING, *(float(np.quantile(each, COVERAGE)) / _Z for each in ratios)) * _REFITTED


def _numbers(values: Iterable[object]) -> Labels:
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
