"""What one arm of a Linear costs: constants of a device, a scheme and a compile mode, and fitting them to times.

The time of y[M, N] = x[M, K] W[N, K]^T, in us:

    floor + input * M K + output * M N + max(weight * K N, multiply * K * max(M N, in_flight)) + fresh * K N

with soft maxima. `floor` is what every call costs, `input` reading (and quantizing) x, `output` writing (and
rescaling) y, `weight` bringing W (and making it what is multiplied), `multiply` a multiply-add, `in_flight` how many
outputs a device computes at once: with fewer, a part of it waits. `fresh` is only of kernels that make their weights
anew at each call, on CPUs and from 32 MiB on (2^24 weights in bfloat16, 2^23 in float32): so much memory an allocator
gives back every time, and the system hands it out again page by page (glibc's DEFAULT_MMAP_THRESHOLD_MAX). All are
positive, so times grow with M, K and N.
"""

from dataclasses import astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

Array = npt.NDArray[np.float64]
SOFT = 1.5  # exponent of the soft maxima: 1 is a sum; the best of 1 to 8 on cells left out
_FEW_OUTPUTS = 0.003  # 10^6 outputs
_POOR = 0.15  # misfit of log time from which another start is tried
MISFIT = 0.06  # of log time, that the model is taken to leave
_MEGA = 1e6
_NONE = 1e-9  # us: a cost that a kernel does not have
_KEPT_BYTES = 2**25  # of memory that an allocator does not give back


@dataclass(frozen=True)
class Costs:
    """The constants of one arm."""

    floor_us: float
    weight_us: float  # per 10^6 weights
    multiply_us: float  # per 10^9 multiply-adds
    in_flight: float  # 10^6 outputs
    input_us: float  # per 10^6 elements of x
    output_us: float  # per 10^6 elements of y
    fresh_us: float = _NONE  # per 10^6 weights
    weight_bytes: int = 2  # of a weight that is made anew; not fitted

    @property
    def logs(self) -> Array:
        """The logarithms of what is fitted."""
        return np.asarray(np.log(astuple(self)[:-1]))

    def time_us(self, shapes: Array) -> Array:
        """Times of shapes: an array of (shapes, 3), columns M, K, N."""
        return parts_us(self.logs, shapes, self.weight_bytes)[0]

    def weight_share(self, shapes: Array) -> Array:
        """The share of the time that the weights alone would take."""
        return np.asarray(self.weight_us * shapes[:, 1] * shapes[:, 2] / _MEGA / self.time_us(shapes))

    @property
    def ridge(self) -> float:
        """Rows M from which multiplying takes longer than bringing the weights."""
        return 1e3 * self.weight_us / self.multiply_us


_FITTED = [field.name for field in fields(Costs)][:-1]


@dataclass(frozen=True)
class Prior:
    """Where constants are expected before a time is known: medians and spreads of their logarithms."""

    median: Costs
    spread: tuple[float, ...]


class Timed(NamedTuple):
    """What the constants of an arm are fitted to."""

    shapes: Array  # (cells, 3), columns M, K, N
    times_us: Array  # of each cell
    weights: Array  # what each cell counts
    prior: Prior  # what is expected of the constants


_FIXED = 1e-3  # spread of what is not fitted
BASELINE_SPREAD = (0.7, 0.7, 0.7, 1.5, 1.5, 1.5, _FIXED)
TREATED_SPREAD = (
    0.7,
    1.0,
    2.5,
    2.0,
    1.2,
    1.2,
    _FIXED,
)  # wide in multiplying: a naive kernel is 1,000 times slower
_FAULTS_US, _FAULTS_SPREAD = 400.0, 0.7  # of two tensors 980 pages of 4 KiB, 0.4 us each on a Zen 4
_MADE_ANEW = 4.5  # times the bytes of an unquantized weight: of two tensors, each written and read again


def baseline_prior(shapes: Array, times_us: Array) -> Prior:
    """From the fastest that a device was seen to do."""
    m, k, n = shapes.T
    weight = float(np.min(times_us / (k * n))) * _MEGA
    multiply = float(np.min(times_us / (m * k * n))) * 1e9
    floor = float(np.min(times_us)) * 0.7
    moved = weight / 2  # an element of x or y is as large as a weight, and stays in the caches in part
    return Prior(Costs(floor, weight, multiply, 0.3 * floor / multiply, moved, moved), BASELINE_SPREAD)


def treated_prior(baseline: Costs, *, made_anew: bool = False, weight_bytes: int = 2) -> Prior:
    """From the unquantized arm: half the bytes, and activations that have to be quantized.

    Args:
        baseline: what that arm costs.
        made_anew: whether the kernel makes its weights anew at each call, in memory that the system hands out.
        weight_bytes: of one of these.
    """
    median = Costs(
        baseline.floor_us * 1.4,
        baseline.weight_us * (_MADE_ANEW if made_anew else 0.6),
        baseline.multiply_us,
        baseline.in_flight,
        baseline.weight_us,
        baseline.weight_us / 2,
        _FAULTS_US * weight_bytes / 2 if made_anew else _NONE,
        weight_bytes,
    )
    return Prior(median, (*TREATED_SPREAD[:-1], _FAULTS_SPREAD) if made_anew else TREATED_SPREAD)


def fit_costs(timed: Timed) -> Costs:
    """The constants that explain the times best, robustly, near the prior where times say little."""
    from scipy.optimize import least_squares  # takes a third of a second, and few analyses fit anything anew

    shapes, times_us, weights, prior = timed
    centre, spread, size = prior.median.logs, np.array(prior.spread), prior.median.weight_bytes
    observed, root = np.log(times_us), np.sqrt(weights) / MISFIT

    def misfit(constants: Array) -> Array:
        off = (np.log(parts_us(constants, shapes, size)[0]) - observed) * root
        return np.concatenate([off, (constants - centre) / spread])

    def slopes(constants: Array) -> Array:
        time, parts = parts_us(constants, shapes, size)
        return np.concatenate([(parts / time[:, None]) * root[:, None], np.diag(1 / spread)])

    def fitted(start: Array) -> "OptimizeResult":
        return least_squares(
            misfit, start, slopes, loss="soft_l1", f_scale=2.0, max_nfev=60, ftol=1e-5, xtol=1e-5
        )

    found = fitted(centre)
    if np.std(misfit(found.x)[: len(observed)] * MISFIT) > _POOR:
        found = min(found, fitted(_slow_start(centre, shapes, times_us)), key=lambda each: float(each.cost))
    return replace(prior.median, **dict(zip(_FITTED, np.exp(found.x).tolist(), strict=True)))


def _slow_start(centre: Array, shapes: Array, times_us: Array) -> Array:
    """Where a kernel would be that does nothing but multiply, a few outputs at once."""
    slow = centre.copy()
    slow[2] = np.log(np.min(times_us / shapes.prod(axis=1)) * 1e9)
    slow[3] = np.log(_FEW_OUTPUTS)
    return slow


def parts_us(constants: Array, shapes: Array, weight_bytes: int) -> tuple[Array, Array]:
    """The model: times, and what each constant adds to them.

    Args:
        constants: logarithms, in the order of `Costs`.
        shapes: (shapes, 3), columns M, K, N.
        weight_bytes: of a weight that is made anew.

    Returns:
        Times in us; their derivatives by each constant's logarithm, (shapes, constants).
    """
    floor, weight, multiply, in_flight, moved_in, moved_out, fresh = np.exp(constants)
    m, k, n = (shapes / 1e3).T  # products of two are 10^6, of three 10^9
    outputs, of_outputs, of_flight = _soft_max(m * n, np.full(len(m), in_flight))
    busy, of_weight, of_multiply = _soft_max(weight * k * n, multiply * k * outputs)
    into, out = moved_in * m * k, moved_out * m * n
    waiting = of_multiply * of_flight / (of_outputs + of_flight)
    kept = _KEPT_BYTES / weight_bytes / _MEGA * (1 - 1e-9)  # products of floats may be a little less
    anew = fresh * k * n * (k * n >= kept)
    parts = [np.full(len(m), floor), of_weight, of_multiply, waiting, into, out, anew]
    return floor + into + out + busy + anew, np.column_stack(parts)


def _soft_max(one: Array, other: Array) -> tuple[Array, Array, Array]:
    """The soft maximum of two, and the part of it that each is: its derivative by that one's logarithm."""
    high = np.maximum(one, other)
    powers = (one / high) ** SOFT, (other / high) ** SOFT
    total = powers[0] + powers[1]
    value = high * total ** (1 / SOFT)
    return value, value * powers[0] / total, value * powers[1] / total
