"""What the unquantized arm of a device costs; few rows may have a kernel of their own, as a vector does."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.forecasts.costs import Array, Costs, Timed, baseline_prior, fit_costs
from src.forecasts.doubts import Doubts, doubts
from src.forecasts.evidence.cells import SHAPE
from src.forecasts.evidence.kernels import Switch
from src.forecasts.switches import jump

_MANY = np.array([[1, 1e5, 1e5]])  # a shape
_LEAST = 3  # shapes on each side of a switch: fewer tell nothing of a kernel


@dataclass(frozen=True)
class Unquantized:
    """The constants of that arm.

    Args:
        costs: of all rows, or of those from where the kernel switches.
        few: of the rows up to there, where it does.
        switch: where that is.
    """

    costs: Costs
    few: Costs | None = None
    switch: Switch | None = None

    @property
    def ridge(self) -> float:
        """Rows M from which multiplying takes longer than bringing the weights."""
        return self.costs.ridge

    @property
    def weight_us(self) -> float:
        """What bringing 10^6 weights takes; where one row has a kernel of its own, bringing and multiplying many."""
        if self.few is None:
            return self.costs.weight_us
        return float(self.few.time_us(_MANY)[0] / _MANY[0, 1:].prod() * 1e6)

    def of(self, shapes: Array) -> Costs:
        """The constants for shapes: those of few rows where all have few."""
        few = self.few if self.switch and (shapes[:, 0] <= self.switch.last).all() else None
        return few or self.costs

    def time_us(self, shapes: Array) -> Array:
        """Times of shapes: an array of (shapes, 3), columns M, K, N; between two kernels the middle of both."""
        if self.few is None:
            return self.costs.time_us(shapes)
        return np.asarray(self.costs.time_us(shapes) * np.exp(self._part(shapes) * self._apart(shapes)))

    def weight_share(self, shapes: Array) -> Array:
        """The share of the time that the weights alone would take."""
        share = self.costs.weight_share(shapes)
        if self.few is None:
            return share
        return np.where(self._part(shapes), self.few.weight_share(shapes), share)

    def unsettled(self, shapes: Array) -> Array:
        """Variance of the logarithm of the time of shapes for which it is not known which kernel computes them."""
        if self.few is None:
            return np.zeros(len(shapes))
        return np.asarray(np.where(self._part(shapes) % 1, self._apart(shapes) / 2, 0.0) ** 2)

    def _part(self, shapes: Array) -> Array:
        """Of each shape how much the kernel of few rows counts: 1, 0, or a half between the two."""
        rows, switch = shapes[:, 0], self.switch or Switch(0, 0)
        return np.asarray((rows <= switch.last) * 0.5 + (rows < switch.first) * 0.5)

    def _apart(self, shapes: Array) -> Array:
        """Logarithm of the time of the kernel of few rows, over that of the other."""
        few = self.few or self.costs
        return np.asarray(np.log(few.time_us(shapes) / self.costs.time_us(shapes)))


def fit_unquantized(timed: Timed) -> Unquantized:
    """The constants that explain the times: two sets where what one leaves jumps between two M, for every K and N."""
    one = fit_costs(timed)
    left = np.log(timed.times_us / one.time_us(timed.shapes))
    switch = jump(pd.DataFrame(timed.shapes, columns=SHAPE).assign(left=left), ["K", "N"])
    few = timed.shapes[:, 0] <= (switch.last if switch else 0)
    if min(few.sum(), (~few).sum()) < _LEAST:
        return Unquantized(one)
    return Unquantized(fit_costs(_among(timed, ~few)), fit_costs(_among(timed, few)), switch)


def unquantized_doubts(found: Unquantized, timed: Timed) -> Doubts:
    """How far off the constants of more rows may be: those of few say nothing of how times grow."""
    if found.switch:
        timed = _among(timed, timed.shapes[:, 0] > found.switch.last)
    return doubts(found.costs, timed)


def _among(timed: Timed, rows: npt.NDArray[np.bool_]) -> Timed:
    """Some of the times, with what is expected of a kernel that took these."""
    shapes, times_us = timed.shapes[rows], timed.times_us[rows]
    return Timed(shapes, times_us, timed.weights[rows], baseline_prior(shapes, times_us))
