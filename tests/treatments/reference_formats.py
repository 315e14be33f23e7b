"""Every number format of conf/quant that a CPU has kernels or an emulation for, once more in float64, from its rules.

Nothing of torchao is used here. A format is what it does to the weight [N, K] and what it does to the activations
[M, K]: float64 in, the float64 numbers that the codes stand for out. The rules are those of torchao 0.18; where they
are not the textbook's, a comment says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

Rounding = Callable[[Tensor], Tensor]  # [blocks, size] with a scale per row -> the same, rounded
WHOLE_ROW = -1


@dataclass(frozen=True)
class Format:
    """A scheme's numbers: of the weights, of the activations, and of the output of its matmul."""

    weight: Rounding
    activation: Rounding = lambda x: x
    dtype: torch.dtype = torch.float32  # of model, bias and output

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [M, K], weight [N, K], bias [N] -> [M, N], all float64."""
        y = self.activation(x) @ self.weight(weight).T + bias
        return y.to(self.dtype).double()


def by(size: int, rounding: Rounding) -> Rounding:
    """Rounding in blocks of `size` values along a row, which may go on in the next row."""

    def rounded(t: Tensor) -> Tensor:
        return rounding(t.reshape(-1, t.shape[-1] if size == WHOLE_ROW else size)).reshape(t.shape)

    return rounded


def at_once(rounding: Rounding) -> Rounding:
    """Rounding of the whole tensor as one block."""
    return lambda t: rounding(t.reshape(1, -1)).reshape(t.shape)


def symmetric(bits: int, blocks: Tensor) -> Tensor:
    """Codes -2^(bits-1) ... 2^(bits-1)-1; the largest magnitude lies halfway between the last two of them.

    That is torchao's scale, absmax / 127.5 for int8; the textbook's is absmax / 127.
    """
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = _nonzero(blocks.abs().amax(1, keepdim=True) / ((high - low) / 2))
    return (blocks / scale).round().clamp(low, high) * scale


def fixed_scale(largest_code: int, blocks: Tensor) -> Tensor:
    """int8 codes with the scale of a static scheme: the largest magnitude is the largest code."""
    scale = _nonzero(blocks.abs().amax(1, keepdim=True) / largest_code)
    return (blocks / scale).round().clamp(-largest_code - 1, largest_code) * scale


def asymmetric(bits: int, blocks: Tensor) -> Tensor:
    """Unsigned codes over [min, max], widened to hold 0, which is a code."""
    low, high = blocks.amin(1, keepdim=True).clamp(max=0), blocks.amax(1, keepdim=True).clamp(min=0)
    scale = _nonzero((high - low) / (2**bits - 1))
    zero = (-low / scale).round()
    return ((blocks / scale).round() + zero).clamp(0, 2**bits - 1).sub(zero) * scale


def between_extremes(bits: int, blocks: Tensor) -> Tensor:
    """Unsigned codes over [min, max]; 0 need not be among their values (tinygemm)."""
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    scale = _nonzero((high - low) / (2**bits - 1))
    return ((blocks - low) / scale).round().clamp(0, 2**bits - 1) * scale + low


def half_quadratic(bits: int, blocks: Tensor) -> Tensor:
    """As `between_extremes`, with the zero moved until the errors' 0.7-norm is small (HQQ: Badri, Shaji 2023)."""
    codes = partial(torch.clamp, min=0, max=2**bits - 1)
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    inverse = ((2**bits - 1) / _nonzero(high - low)).clamp(max=2e4)
    zero, beta, best = (-low * inverse).round(), 10.0, 1e4
    for _ in range(20):
        q = codes((blocks * inverse + zero).round())
        error = blocks - (q - zero) / inverse
        shrunk = error.sign() * (error.abs() - error.abs() ** -0.3 / beta).clamp(min=0)
        zero = (q - (blocks - shrunk.nan_to_num(0.0)) * inverse).mean(1, keepdim=True)
        beta *= 1.01
        if error.abs().mean() >= best:
            break
        best = float(error.abs().mean())
    return (codes((blocks * inverse + zero).round()) - zero) / inverse


def nearest_float(exponent_bits: int, mantissa_bits: int, largest: float, t: Tensor) -> Tensor:
    """The nearest number of a float format, ties to even, subnormals too; beyond the largest it is the largest."""
    smallest_exponent = 2 - 2 ** (exponent_bits - 1)
    exponent = (torch.frexp(t.abs()).exponent - 1).clamp(min=smallest_exponent)
    step = torch.exp2((exponent - mantissa_bits).double())
    return ((t / step).round() * step).clamp(-largest, largest)


E4M3 = partial(nearest_float, 4, 3, 448.0)  # the code above it is NaN
E5M2 = partial(nearest_float, 5, 2, 57344.0)  # the exponent above it holds infinity and NaN
E2M1 = partial(nearest_float, 2, 1, 6.0)
E4M3_SMALLEST_NORMAL = 2.0**-6


def all_finite(exponent_bits: int, mantissa_bits: int) -> tuple[Rounding, float]:
    """A float format without infinities or NaN, and its largest number."""
    top = 2**exponent_bits - 2 ** (exponent_bits - 1)
    largest = 2.0**top * (2 - 2.0**-mantissa_bits)
    return partial(nearest_float, exponent_bits, mantissa_bits, largest), largest


def scaled(number: Rounding, largest: float, blocks: Tensor) -> Tensor:
    """Floats with a scale that takes the largest magnitude to the largest number."""
    scale = _nonzero(blocks.abs().amax(1, keepdim=True) / largest)
    return number(blocks / scale) * scale


def microscaled(number: Rounding, largest: float, blocks: Tensor) -> Tensor:
    """OCP MX: the scale is a power of two (e8m0), rounded up, so that nothing is clipped (torchao: RCEIL)."""
    scale = torch.exp2((_nonzero(blocks.abs().amax(1, keepdim=True)) / largest).log2().ceil())
    return number(blocks / scale) * scale


def nvfp4(t: Tensor) -> Tensor:
    """float4 e2m1 in blocks of 16 with scales in e4m3, and one float32 scale over all of them."""
    whole = t.abs().amax() / (448 * 6)
    blocks = t.reshape(-1, 16)
    scale = blocks.abs().amax(1, keepdim=True) / 6 / whole
    scale = E4M3(scale.clamp(min=E4M3_SMALLEST_NORMAL)) * whole
    return (E2M1(blocks / scale) * scale).reshape(t.shape)


NORMAL_FLOAT = torch.tensor(  # QLoRA (Dettmers et al. 2023), appendix E, to four digits as torchao has it
    [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626,
     0.7230, 1.0], dtype=torch.float64,
)  # fmt: skip


def normal_float(t: Tensor) -> Tensor:
    """NF4 in blocks of 64; the scales, less their mean, in int8 by 256."""
    blocks = t.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    codes = (blocks / _nonzero(scale)).unsqueeze(-1).sub(NORMAL_FLOAT).abs().argmin(-1)
    mean = scale.mean()
    by_256 = (scale - mean).reshape(-1, 256)
    step = _nonzero(by_256.abs().amax(1, keepdim=True) / 128)
    stored = (by_256 / step).round().clamp(-128, 127) * step
    return (NORMAL_FLOAT[codes] * (stored.reshape(scale.shape) + mean)).reshape(t.shape)


def codebook(weight: Tensor) -> Tensor:
    """16 values found by k-means (Lloyd) over all weights, each row scaled by its largest: torchao's max, not absmax.

    k-means starts from points far apart, as torchao's does. From quantiles it ends 1 dB better, with outliers 3 dB.
    """
    scale = weight.amax(1, keepdim=True)
    values = (weight / scale).flatten()
    centres = values[:1]
    for _ in range(15):
        farthest = values.unsqueeze(1).sub(centres).abs().amin(1).argmax()
        centres = torch.cat([centres, values[farthest : farthest + 1]])
    for _ in range(100):
        nearest = values.unsqueeze(1).sub(centres).abs().argmin(1)
        sums, counts = torch.zeros(16).double(), torch.zeros(16).double()
        sums.index_add_(0, nearest, values)
        counts.index_add_(0, nearest, torch.ones_like(values))
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    nearest = values.unsqueeze(1).sub(centres).abs().argmin(1)
    return centres[nearest].reshape(weight.shape) * scale


def _nonzero(scale: Tensor) -> Tensor:
    """A block of zeros has some scale too."""
    return torch.where(scale > 0, scale, 1.0)


INT8 = by(WHOLE_ROW, partial(symmetric, 8))
FLOAT8 = by(WHOLE_ROW, partial(scaled, E4M3, 448.0))
MXFP8 = by(32, partial(microscaled, E4M3, 448.0))
MXFP4 = by(32, partial(microscaled, E2M1, 6.0))
INT4 = by(128, partial(between_extremes, 4))
FLOATS = [(e, m) for e in range(1, 8) for m in range(7) if 3 <= 1 + e + m <= 8]

FORMATS = {
    "int8wo": Format(INT8),
    "int8wo_fused": Format(INT8),
    "int8dq": Format(INT8, INT8),
    "int8_static": Format(INT8, at_once(partial(fixed_scale, 127))),
    "int4wo": Format(INT4),
    "int4wo_hqq": Format(by(128, partial(half_quadratic, 4))),
    "int4dq": Format(by(32, partial(symmetric, 4)), by(WHOLE_ROW, partial(asymmetric, 8))),
    "float8wo": Format(FLOAT8),
    "float8wo_e5m2": Format(by(WHOLE_ROW, partial(scaled, E5M2, 57344.0))),
    "float8_e4m3_row": Format(FLOAT8, FLOAT8, torch.bfloat16),
    "mxfp8": Format(MXFP8, MXFP8, torch.bfloat16),
    "mxfp4": Format(MXFP4, MXFP4, torch.bfloat16),
    "nvfp4wo": Format(nvfp4),
    "nf4": Format(normal_float),
    "codebook": Format(codebook),
    **{f"uint{bits}wo": Format(by(64, partial(asymmetric, bits))) for bits in range(1, 8)},
    **{
        f"fp{1 + e + m}_e{e}m{m}": Format(by(WHOLE_ROW, partial(scaled, *all_finite(e, m))))
        for e, m in FLOATS
    },
}
