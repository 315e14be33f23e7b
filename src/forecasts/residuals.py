"""What the cost model leaves: a smooth correction over log M, log K and log N, and how sure it is.

A Gaussian process over the residual log speedups of all schemes and devices of a family. Neighbouring shapes have
similar residuals (Matern 5/2); a part is common to all schemes of a device (the unquantized arm has its own whims), a
part is each scheme's own; other devices' residuals count less.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Smoothness:
    """How residuals vary: lengths in doublings, spreads of log speedup."""

    rows: float = 2.0  # doublings of M
    sides: float = 1.5  # doublings of K and of N
    common: float = 0.10  # spread of the part that all schemes share
    own: float = 0.15  # least spread of a scheme's own part
    noise: float = 0.03  # of a cell of weight 1: timing, and what no smooth function of the shape explains
    across: float = 0.7  # correlation between two devices


@dataclass(frozen=True)
class Points:
    """Where residuals are: shapes (n, 3) as M, K, N; the number of each one's device and kernel."""

    shapes: Array
    device: Labels
    kernel: Labels

    def at(self, chosen: Labels) -> "Points":
        """Some of them."""
        return Points(self.shapes[chosen], self.device[chosen], self.kernel[chosen])


@dataclass
class Correction:
    """The process, given residuals.

    Args:
        points: where they are.
        residuals: of log speedup.
        weights: what each counts; a small one is a noisier cell.
        smooth: how residuals vary.
    """

    points: Points
    residuals: Array
    weights: Array
    smooth: Smoothness = field(default_factory=Smoothness)

    def __post_init__(self) -> None:
        from scipy.linalg import cho_factor, cho_solve  # not where everything is kept of before

        self.spreads = self._own_spreads()
        covariance = self._covariance(self.points, self.points)
        covariance[np.diag_indices_from(covariance)] += self.smooth.noise**2 / self.weights
        self._factor = cho_factor(covariance, lower=True)
        self._solved = np.asarray(cho_solve(self._factor, self.residuals))

    def at(self, points: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of the residual at other points, noise included."""
        from scipy.linalg import solve_triangular

        across = self._covariance(points, self.points)
        mean = across @ self._solved
        known = np.sum(solve_triangular(self._factor[0], across.T, lower=True) ** 2, axis=0)
        variance = self._prior(points) - known + self.smooth.noise**2
        return np.asarray(mean), np.sqrt(np.maximum(variance, self.smooth.noise**2))

    def left_out(self, groups: Labels) -> tuple[Array, Array]:
        """Error and standard deviation at each point when its whole group is left out, in closed form."""
        from scipy.linalg.lapack import dpotri

        lower, _ = dpotri(
            self._factor[0], lower=True
        )  # in half the time that solving for a unit matrix takes
        inverse = np.tril(lower) + np.tril(lower, -1).T
        error, spread = np.empty(len(groups)), np.empty(len(groups))
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            block = np.linalg.inv(inverse[np.ix_(members, members)])
            error[members] = block @ self._solved[members]
            spread[members] = np.sqrt(np.diag(block))
        return error, spread

    def _own_spreads(self) -> Array:
        """Of each kernel's residuals: as wide as they are, at least `smooth.own`."""
        count = int(self.points.kernel.max()) + 1 if len(self.residuals) else 0
        found = [self.residuals[self.points.kernel == kernel] for kernel in range(count)]
        return np.array(
            [max(self.smooth.own, float(np.sqrt(np.mean(r**2))) if len(r) else 0.0) for r in found]
        )

    def _prior(self, points: Points) -> Array:
        return self.smooth.common**2 + self._spread(points.kernel) ** 2

    def _spread(self, kernel: Labels) -> Array:
        """A kernel without residuals varies as the widest one."""
        known = kernel < len(self.spreads)
        widest = float(self.spreads.max(initial=self.smooth.own))
        return np.where(known, self.spreads[np.minimum(kernel, len(self.spreads) - 1)], widest)

    def _covariance(self, one: Points, other: Points) -> Array:
        scale = np.array([self.smooth.rows, self.smooth.sides, self.smooth.sides])
        sides = zip((np.log2(one.shapes) / scale).T, (np.log2(other.shapes) / scale).T, strict=True)
        near = _matern(np.sqrt(sum((a[:, None] - b[None]) ** 2 for a, b in sides)))
        same_kernel = one.kernel[:, None] == other.kernel[None]
        own = self._spread(one.kernel)[:, None] * self._spread(other.kernel)[None] * same_kernel
        same_device = np.where(one.device[:, None] == other.device[None], 1.0, self.smooth.across)
        return np.asarray((self.smooth.common**2 + own) * near * same_device)


def _matern(distance: Array) -> Array:
    """Matern 5/2: twice differentiable, and no smoother."""
    scaled = np.sqrt(5.0) * distance
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))
