"""How long an unquantized Linear takes, alone and inside a whole model: the costs, corrected by what they leave.

Alone a layer is timed for a moment, at a clock that a power limit lets a device hold for a moment. A whole model runs
for seconds: none of its layers multiplies faster than the device does for milliseconds on end (`sustained`).
"""

from functools import cached_property

import numpy as np
import pandas as pd

from src.forecasts.arms import BYTES, shapes_of
from src.forecasts.costs import Array
from src.forecasts.evidence.cells import SHAPE
from src.forecasts.family import Family
from src.forecasts.residuals import Correction, Points

_LONG_MS = 1.0  # a power controller has acted by then
_FLOP = 2  # of a multiply-add


class BaselineTimes:
    """Times of one device's unquantized layers.

    Args:
        family: of the device's kind, with the compile mode and dtype asked for.
        device: of the family, with times of its own.
    """

    def __init__(self, family: Family, device: str) -> None:
        self.family, self.device = family, device
        self.costs = family.arms.baselines[device]
        rows = family.cells[(family.cells["device"] == device) & family.cells["baseline_ms"].notna()]
        kept = {"baseline_ms": "median", "weight": "max"}
        self.timed: pd.DataFrame = rows.groupby(SHAPE, sort=False).agg(kept).reset_index()

    def __call__(self, shapes: Array) -> tuple[Array, Array]:
        """Milliseconds of each shape, and the standard deviation of their logarithm."""
        alone = self.costs.time_us(shapes) / 1e3
        moved, spread = self._correction.at(_points(shapes))
        return alone * np.exp(moved), spread

    @property
    def sustained_tflop_s(self) -> float:
        """The highest rate of a layer that takes a millisecond or more; nan: none does."""
        return float(_rates(self.timed[self.timed["baseline_ms"] >= _LONG_MS]).max())

    @property
    def fastest_tflop_s(self) -> float:
        """The highest rate of any layer."""
        return float(_rates(self.timed).max())

    @property
    def bandwidth_gb_s(self) -> float:
        """At which weights are brought."""
        size = BYTES.get(str(self.family.cells["dtype"].iloc[0]), 2)
        return 1e3 * size / self.costs.weight_us

    @cached_property
    def _correction(self) -> Correction:
        shapes = shapes_of(self.timed)
        left = np.log(self.timed["baseline_ms"].to_numpy() * 1e3 / self.costs.time_us(shapes))
        return Correction(_points(shapes), left, self.timed["weight"].to_numpy(), self.family.smooth)


def within_whole(alone_ms: Array, shapes: Array, tflop_s: float) -> Array:
    """Times inside a whole model: those alone, or what multiplying takes at the rate that is held; nan: no limit."""
    held = _FLOP * shapes.prod(axis=1) / tflop_s / 1e9
    return np.asarray(np.fmax(alone_ms, held))


def _rates(timed: pd.DataFrame) -> "pd.Series[float]":
    """TFLOP/s of each layer."""
    found: pd.Series[float] = _FLOP * timed[SHAPE].prod(axis=1) / timed["baseline_ms"] / 1e9
    return found


def _points(shapes: Array) -> Points:
    """Of one device and one kernel."""
    same = np.zeros(len(shapes), dtype=np.int64)
    return Points(shapes, same, same)
