"""What both arms of a family's cells cost: constants fitted to their times, and how far off these may be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from src.forecasts.costs import (
    BASELINE_SPREAD,
    Array,
    Costs,
    Prior,
    Timed,
    baseline_prior,
    fit_costs,
    treated_prior,
)
from src.forecasts.doubts import Doubts, doubts, expected
from src.forecasts.evidence.cells import SHAPE, is_cpu
from src.forecasts.evidence.kernels import made_anew
from src.forecasts.unquantized import Unquantized, fit_unquantized, unquantized_doubts

BYTES = {"float32": 4}  # of a weight; else 2
_UNTIMED = {  # on a CPU or not
    True: Costs(50, 30, 3000, 0.01, 30, 30),
    False: Costs(5, 0.7, 3, 0.3, 0.35, 0.35),
}
_SEEN = (0.3, 0.6)  # deviation of log `multiply_us`, unquantized and of a kernel: within 1.35 and 1.8 times
T = TypeVar("T")
Key = tuple[str, str]  # a device, a kernel


@dataclass(frozen=True)
class Arms:
    """The unquantized arm of each device, and of each kernel on each device the treated one."""

    cells: pd.DataFrame  # of a family
    fitted: Mapping[Key, Costs] = field(default_factory=dict)  # of `treated`, what is known already

    @cached_property
    def baselines(self) -> dict[str, Unquantized]:
        """What the unquantized arm costs, per device; one without times is taken to be like another, or like any."""
        found = {device: fit_unquantized(timed) for device, timed in self._timed.items()}
        return self._of_each(found, Unquantized(untimed(self._devices[0]).median))

    @cached_property
    def treated(self) -> dict[Key, Costs]:
        """What each kernel costs on each device that it was measured on."""
        return {key: self.fitted.get(key) or fit_costs(self._of(key, rows)) for key, rows in self._groups()}

    def costs(self, device: str, name: str) -> tuple[Unquantized, Costs]:
        """The unquantized arm's and the kernel's; from another device where this one has none."""
        known = self._known(device, name)
        return self.baselines[known], self.treated[known, name]

    def doubts(self, device: str, name: str) -> tuple[Doubts, Doubts]:
        """How far off these may be."""
        known = self._known(device, name)
        return self._doubted[known], self._doubts[known, name]

    def grow(self, device: str, name: str) -> bool:
        """Whether the cells show how long multiplying takes in both arms, and so what many more rows take."""
        each = zip(self.doubts(device, name), _SEEN, strict=True)
        return all(arm.of_multiplying < most for arm, most in each)

    def timed(self, device: str) -> bool:
        """Whether cells of the device have times."""
        return device in self._timed

    @cached_property
    def _timed(self) -> dict[str, Timed]:
        timed = self.cells[self.cells["baseline_ms"].notna()]
        return {str(device): baseline_times(rows) for device, rows in timed.groupby("device", sort=False)}

    @cached_property
    def _doubted(self) -> dict[str, Doubts]:
        """How far off `baselines` may be."""
        found = {
            device: unquantized_doubts(self.baselines[device], timed) for device, timed in self._timed.items()
        }
        return self._of_each(found, expected(untimed(self._devices[0])))

    @cached_property
    def _doubts(self) -> dict[Key, Doubts]:
        """How far off `treated` may be."""
        return {key: doubts(self.treated[key], self._of(key, rows)) for key, rows in self._groups()}

    def _of(self, key: Key, rows: pd.DataFrame) -> Timed:
        return treated_times(rows, self.baselines[key[0]])

    def _groups(self) -> Iterator[tuple[Key, pd.DataFrame]]:
        for (device, kernel), rows in self.cells.groupby(["device", "kernel"], sort=False):
            yield (str(device), str(kernel)), rows

    @property
    def _devices(self) -> list[str]:
        return list(dict.fromkeys(self.cells["device"]))

    def _of_each(self, found: dict[str, T], usual: T) -> dict[str, T]:
        other = next(iter(found.values()), usual)
        return {device: found.get(device, other) for device in self._devices}

    def _known(self, device: str, name: str) -> str:
        """The device whose costs of a kernel are taken."""
        return device if (device, name) in self.treated else next(d for d, k in self.treated if k == name)


def untimed(device: str) -> Prior:
    """What is expected of a device none of whose cells has times: only ratios of these matter."""
    return Prior(_UNTIMED[is_cpu(device)], BASELINE_SPREAD)


def baseline_times(rows: pd.DataFrame) -> Timed:
    """Of a device's cells with times, those of the unquantized arm, each shape once."""
    unique = rows.groupby(SHAPE, sort=False).agg({"baseline_ms": "median", "weight": "max"}).reset_index()
    shapes, times_us = shapes_of(unique), unique["baseline_ms"].to_numpy() * 1e3
    return Timed(shapes, times_us, unique["weight"].to_numpy(), baseline_prior(shapes, times_us))


def treated_times(rows: pd.DataFrame, baseline: Unquantized) -> Timed:
    """Of a device's cells of a kernel; where there are no times, what the ratios make of the baseline's."""
    shapes = shapes_of(rows)
    from_ratio = baseline.time_us(shapes) / np.exp(rows["log"].to_numpy())
    told = rows["treated_ms"].to_numpy() * 1e3
    times_us = np.where(np.isfinite(told), told, from_ratio)
    first, dtype = rows.iloc[0], str(rows["dtype"].iloc[0])
    anew = made_anew(str(first["kernel"]), kind_of(str(first["device"])), dtype)
    prior = treated_prior(baseline.of(shapes), made_anew=anew, weight_bytes=BYTES.get(dtype, 2))
    return Timed(shapes, times_us, rows["weight"].to_numpy(), prior)


def shapes_of(rows: pd.DataFrame) -> Array:
    """(rows, 3): M, K, N."""
    return rows[SHAPE].to_numpy(dtype=np.float64)


def kind_of(device: str) -> str:
    """The name of its kind in `kernels.yaml`."""
    return "cpu" if is_cpu(device) else "accelerator"
