"""All that is fitted together: the cells of one compile mode and dtype on devices of one kind."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from src.forecasts.costs import Array, Costs, baseline_prior, fit_costs, treated_prior
from src.forecasts.evidence.cells import OWN, SHAPE, is_cpu, weights
from src.forecasts.evidence.kernels import Switch, known_switch, made_anew
from src.forecasts.reach import Reach
from src.forecasts.residuals import Correction, Labels, Points, Smoothness

UNTIMED = {  # of a device none of whose cells has times: only ratios of these matter
    True: Costs(50, 30, 3000, 0.01, 30, 30),
    False: Costs(5, 0.7, 3, 0.3, 0.35, 0.35),
}
COVERAGE = 0.9  # of an interval
_Z = 1.645  # half of a normal's width that holds it
_JUMP, _JUMPS = 0.25, 2  # in log speedup, and for how many (K, N) at least: a kernel's switch
_ROWS = 64  # values of M, the commonest, among which a switch is looked for
_MOST = 1200  # cells that a correction is made of
_LEAST_WIDENING = 0.8
_REFITTED = 1.1  # the costs were fitted with what is left out there
_FEW, _UNTESTED = 6, 1.5  # fewer cells do not tell how wide; then this
_TELLING = 12  # cells of a kernel that tell it of their own


@dataclass(frozen=True)
class Family:
    """Devices of one kind, cells of one compile mode and dtype."""

    cells: pd.DataFrame  # one row per device, kernel and shape; with `kernel`, `log`, `weight`
    switches: dict[str, Switch] = field(default_factory=dict)  # by scheme
    smooth: Smoothness = field(default_factory=Smoothness)
    fitted: dict[tuple[str, str], Costs] = field(default_factory=dict)  # of `treated`, what is known already

    @cached_property
    def devices(self) -> list[str]:
        """In the order met."""
        return list(dict.fromkeys(self.cells["device"]))

    @cached_property
    def kernels(self) -> list[str]:
        """In the order met."""
        return list(dict.fromkeys(self.cells["kernel"]))

    @cached_property
    def baselines(self) -> dict[str, Costs]:
        """What the unquantized arm costs, per device; one without times is taken to be like another, or like any."""
        timed = self.cells[self.cells["baseline_ms"].notna()]
        found = {str(device): _baseline(rows) for device, rows in timed.groupby("device", sort=False)}
        other = next(iter(found.values()), UNTIMED[is_cpu(self.devices[0])])
        return {device: found.get(device, other) for device in self.devices}

    @cached_property
    def treated(self) -> dict[tuple[str, str], Costs]:
        """What each kernel costs on each device that it was measured on."""
        groups = self.cells.groupby(["device", "kernel"], sort=False)
        return {
            (str(d), str(k)): self.fitted.get((str(d), str(k))) or _treated(rows, self.baselines[str(d)])
            for (d, k), rows in groups
        }

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

    def tile(self, quant: str) -> int:
        """Up to so many rows a scheme computes as one tile, known to the row; 0: it is not known."""
        switch = self.switches.get(quant)
        return switch.last if switch and switch.known else 0

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

    def forecast(self, device: str, names: Sequence[str], shapes: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the log speedup of each shape by the kernel beside it."""
        mean, given = np.empty(len(names)), np.array(names)
        for name in set(names):
            mean[given == name] = self._log(device, name, shapes[given == name])
        moved, spread = self.correction.at(self.points([device] * len(names), names, shapes))
        return mean + moved, spread * np.array([self.widening[self.kernels.index(name)] for name in names])

    @cached_property
    def reaches(self) -> dict[tuple[str, str], Reach]:
        """Per kernel and device, and per kernel on all devices (""), where it was measured."""
        found = {(str(k), str(d)): Reach(rows) for (k, d), rows in self.cells.groupby(["kernel", "device"])}
        return found | {(str(k), ""): Reach(rows) for k, rows in self.cells.groupby("kernel")}

    @cached_property
    def logs(self) -> dict[tuple[str, str], tuple[int, float, float]]:
        """Per scheme and device: cells, and the least and largest log speedup."""
        found = self.cells.groupby(["quant", "device"])["log"].agg(["size", "min", "max"])
        return {
            (str(q), str(d)): (int(n), float(low), float(high)) for (q, d), n, low, high in found.itertuples()
        }

    def points(self, devices: Iterable[str], names: Iterable[str], shapes: Array) -> Points:
        """Labels as numbers; a device or kernel that is not known has the next one."""
        d, k = ({name: i for i, name in enumerate(known)} for known in (self.devices, self.kernels))
        labels = [[of.get(name, len(of)) for name in given] for of, given in ((d, devices), (k, names))]
        return Points(shapes, *(np.array(each, dtype=np.int64) for each in labels))

    def timed(self, device: str) -> bool:
        """Whether cells of the device have times."""
        return bool(self.cells.loc[self.cells["device"] == device, "baseline_ms"].notna().any())

    def costs(self, device: str, name: str) -> tuple[Costs, Costs]:
        """The unquantized arm's and the kernel's; from another device where this one has none."""
        base = self.baselines.get(device)
        if base is not None and (device, name) in self.treated:
            return base, self.treated[device, name]
        other = next(d for d, k in self.treated if k == name)
        return self.baselines[other], self.treated[other, name]

    def _physical(self, rows: pd.DataFrame) -> Array:
        """Log speedups by the costs alone."""
        found = np.empty(len(rows))
        for (device, name), members in rows.reset_index(drop=True).groupby(["device", "kernel"], sort=False):
            found[members.index] = self._log(str(device), str(name), shapes_of(members))
        return found

    def _log(self, device: str, name: str, shapes: Array) -> Array:
        base, treated = self.costs(device, name)
        return np.log(base.time_us(shapes) / treated.time_us(shapes))


def family(cells: pd.DataFrame, smooth: Smoothness | None = None) -> Family:
    """The family of these cells: those of one device, scheme and shape made one, kernels that switch told apart."""
    kind, rows = _kind(str(cells["device"].iloc[0])), _one_each(cells)
    known = {str(quant): known_switch(str(quant), kind) for quant in rows["quant"].unique()}
    switches = {quant: switch for quant, switch in known.items() if switch}
    first = _labelled(rows, switches, smooth or _smoothness(rows))
    seen = dict(seen_switches(first.cells, first.left))
    if not seen:
        return first
    fitted = {key: costs for key, costs in first.treated.items() if key[1] not in seen}
    return replace(_labelled(rows, switches | seen, first.smooth), fitted=fitted)


def _kind(device: str) -> str:
    return "cpu" if is_cpu(device) else "accelerator"


def _smoothness(rows: pd.DataFrame) -> Smoothness:
    """As rough as times are: by how much those of the same unquantized layer differ between runs."""
    usual = Smoothness()
    log = np.log(rows["baseline_ms"])
    scatter = log.groupby([rows["device"], *(rows[side] for side in SHAPE)]).var(ddof=1).dropna()
    return replace(usual, noise=max(usual.noise, math.sqrt(scatter.mean()))) if len(scatter) else usual


def _one_each(cells: pd.DataFrame) -> pd.DataFrame:
    rows = cells.assign(log=np.log(cells["speedup"]), weight=weights(cells), own=cells["source"] == OWN)
    key = ["device", "quant", *SHAPE]
    rows = rows[
        rows["own"] | ~rows.groupby(key)["own"].transform("any")
    ]  # what was measured here needs no other
    kept = {"log": "median", "baseline_ms": "median", "treated_ms": "median", "weight": "sum", "own": "any"}
    return rows.groupby(key, sort=False).agg(kept).reset_index()


def _labelled(rows: pd.DataFrame, switches: dict[str, Switch], smooth: Smoothness) -> Family:
    names = [
        switches[quant].names(quant, m)[0] if quant in switches else quant
        for quant, m in zip(rows["quant"], rows["M"], strict=True)
    ]
    return Family(rows.assign(kernel=names), switches, smooth)


def seen_switches(cells: pd.DataFrame, left: Array) -> Iterator[tuple[str, Switch]]:
    """Where a scheme's residuals jump between two neighbouring M, for every (K, N) alike: its kernel switches there.

    The largest jump of a scheme counts; one that the source code tells has its own already.
    """
    rows = cells.assign(left=left)
    for quant, members in rows[rows["kernel"] == rows["quant"]].groupby("quant", sort=False):
        common = members["M"].value_counts().head(_ROWS).index
        among = members[members["M"].isin(common)]
        table = among.set_index(["device", "K", "N", "M"])["left"].unstack("M")
        steps = table.diff(axis=1).iloc[:, 1:]
        alike = (steps.gt(0).sum() == steps.count()) | (steps.lt(0).sum() == steps.count())
        height = steps.mean().abs().where(alike & (steps.count() >= _JUMPS), 0.0)
        if len(height) and height.max() > _JUMP:
            first = int(height.to_numpy().argmax())  # of the steps; its M stands one column on
            yield str(quant), Switch(int(table.columns[first]), int(table.columns[first + 1]))


def shapes_of(rows: pd.DataFrame) -> Array:
    """(rows, 3): M, K, N."""
    return rows[SHAPE].to_numpy(dtype=np.float64)


def _baseline(rows: pd.DataFrame) -> Costs:
    unique = rows.groupby(SHAPE, sort=False).agg({"baseline_ms": "median", "weight": "max"}).reset_index()
    shapes, times_us = shapes_of(unique), unique["baseline_ms"].to_numpy() * 1e3
    return fit_costs(shapes, times_us, unique["weight"].to_numpy(), baseline_prior(shapes, times_us))


def _treated(rows: pd.DataFrame, baseline: Costs) -> Costs:
    """Fitted to the times, or where there are none to what the ratios make of the baseline's."""
    shapes = shapes_of(rows)
    from_ratio = baseline.time_us(shapes) / np.exp(rows["log"].to_numpy())
    told = rows["treated_ms"].to_numpy() * 1e3
    times_us = np.where(np.isfinite(told), told, from_ratio)
    anew = made_anew(str(rows["kernel"].iloc[0]), _kind(str(rows["device"].iloc[0])))
    return fit_costs(shapes, times_us, rows["weight"].to_numpy(), treated_prior(baseline, made_anew=anew))


def _wider(ratios: Sequence[Array]) -> float:
    """From errors over spreads of several ways of leaving out: what the worst of them asks for."""
    return max(_LEAST_WIDENING, *(float(np.quantile(each, COVERAGE)) / _Z for each in ratios)) * _REFITTED


def _numbers(values: Iterable[object]) -> Labels:
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
