"""How far off fitted costs may be: what the times that they were fitted to leave open of them."""

from dataclasses import dataclass

import numpy as np

from src.forecasts.costs import MISFIT, Array, Costs, Prior, Timed, parts_us

_MULTIPLY = 2  # place of `multiply_us` in Costs


@dataclass(frozen=True)
class Doubts:
    """Of one arm's costs."""

    costs: Costs
    directions: Array  # (directions, constants): one standard deviation of them each, on its own

    @property
    def of_multiplying(self) -> float:
        """Standard deviation of the logarithm of what a multiply-add costs."""
        return float(np.linalg.norm(self.directions[:, _MULTIPLY]))

    def of_growth(self, shapes: Array, nearest: Array) -> Array:
        """Variance of the logarithm of how many times as long shapes take as others.

        Args:
            shapes: (shapes, 3), columns M, K, N.
            nearest: beside each another one, which was measured: how long it takes is known.
        """
        usual = self._growth(np.zeros(self.directions.shape[1]), shapes, nearest)
        found = np.zeros(len(shapes))
        for direction in self.directions:
            for moved in (direction, -direction):
                found += (self._growth(moved, shapes, nearest) - usual) ** 2 / 2
        return found

    def _growth(self, moved: Array, shapes: Array, nearest: Array) -> Array:
        logs, size = self.costs.logs + moved, self.costs.weight_bytes
        times, others = (parts_us(logs, each, size)[0] for each in (shapes, nearest))
        return np.asarray(np.log(times / others))


def doubts(costs: Costs, timed: Timed) -> Doubts:
    """How far off costs may be that were fitted to these times, by the slopes of the misfit around them."""
    times_us, parts = parts_us(costs.logs, timed.shapes, costs.weight_bytes)
    off = np.log(times_us / timed.times_us)
    misfit = max(MISFIT, float(np.sqrt(np.average(off**2, weights=timed.weights))))
    root = np.sqrt(timed.weights) / misfit
    slopes = np.concatenate(
        [parts / times_us[:, None] * root[:, None], np.diag(1 / np.array(timed.prior.spread))]
    )
    variances, directions = np.linalg.eigh(np.linalg.inv(slopes.T @ slopes))
    return Doubts(costs, (directions * np.sqrt(np.maximum(variances, 0.0))).T)


def expected(prior: Prior) -> Doubts:
    """Of costs that nothing was fitted to."""
    return Doubts(prior.median, np.diag(prior.spread))
