"""Floats of 3 to 8 bits with one scale per output channel: what torchao's FPXWeightOnlyConfig did until 0.15."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchao.core.config import AOBaseConfig
from torchao.prototype.custom_fp_utils import _f32_to_floatx_unpacked

from src.treatments.packed.bits import pack, unpack
from src.treatments.packed.tensor import PackedTensor, as_matrix, handled


def largest_value(exponent_bits: int, mantissa_bits: int) -> float:
    """The largest number of the format: all codes are finite, so that of exponent and mantissa all ones."""
    top = 2**exponent_bits - 1 - _bias(exponent_bits)
    return float(2**top * (2 - 2**-mantissa_bits))


def decode(codes: Tensor, exponent_bits: int, mantissa_bits: int) -> Tensor:
    """The numbers that codes stand for, exactly.

    The significand is taken as an integer and multiplied by powers of two, one for each bit of the exponent. Inductor
    vectorizes that on a CPU; a table of the numbers is a gather there, and putting floats together from bits a loop
    over single values: both were four times slower.

    Args:
        codes: uint8; from the top: sign, exponent with bias 2**(exponent_bits - 1) - 1, mantissa. Exponent 0 is
            subnormal; there are no infinities and no NaN.
        exponent_bits: at least 1.
        mantissa_bits: at least 0.

    Returns:
        float32 of the same shape.
    """
    code = codes.to(torch.int32)
    exponent = (code >> mantissa_bits) & (2**exponent_bits - 1)
    significand = (code & (2**mantissa_bits - 1)) | (exponent.clamp(max=1) << mantissa_bits)
    exponent = exponent.clamp(min=1)  # that of the subnormal numbers too
    number = significand.to(torch.float32) * 2.0 ** (-_bias(exponent_bits) - mantissa_bits)
    for bit in range(exponent_bits):
        number = torch.where((exponent & (1 << bit)) != 0, number * 2.0 ** (1 << bit), number)
    return torch.where(code >> (exponent_bits + mantissa_bits) != 0, -number, number)


class FpxTensor(PackedTensor):
    """A matrix [N, K] of small floats, with a scale per row.

    Tensors:
        qdata: [packed_rows(N, 1 + exponent_bits + mantissa_bits), K], uint8.
        scale: [N], float32: of a format with many exponent bits it is too small for float16.
    """

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale"]
    tensor_attribute_names: ClassVar[list[str]] = ["exponent_bits", "mantissa_bits", "dtype"]

    @classmethod
    def from_hp(cls, weight: Tensor, exponent_bits: int, mantissa_bits: int) -> "FpxTensor":
        """Quantize [N, K]: the largest weight of a row becomes the largest number, the others go to the nearest.

        The cast is torchao's: ties go to even.

        Raises:
            ValueError: see `as_matrix`.
        """
        weight = as_matrix(weight)
        rows = weight.float()
        largest = torch.full_like(rows[:, 0], largest_value(exponent_bits, mantissa_bits))
        scale = (
            rows.abs().amax(1).clamp(min=1e-12) / largest
        )  # CUDA multiplies by the reciprocal of a plain number
        codes = _f32_to_floatx_unpacked(rows / scale.unsqueeze(1), exponent_bits, mantissa_bits)
        packed = pack(codes, 1 + exponent_bits + mantissa_bits)
        return cls(packed, scale, exponent_bits, mantissa_bits, weight.dtype)

    def dequantize(self) -> Tensor:
        """Number * scale, in float32 until the end; [N, K] in `dtype`."""
        codes = unpack(self.qdata, 1 + self.exponent_bits + self.mantissa_bits, self.shape[0])
        numbers = decode(codes, self.exponent_bits, self.mantissa_bits)
        dequantized: Tensor = (numbers * self.scale.unsqueeze(1)).to(self.dtype)
        return dequantized


@dataclass
class FpxWeightOnlyConfig(AOBaseConfig):  # type: ignore[misc]
    """Weights as small floats; for torchao's quantize_.

    Args:
        exponent_bits: at least 1. With 1 the numbers are evenly spaced: sign and magnitude.
        mantissa_bits: at least 0. With 0 they are powers of two.
        set_inductor_config: change inductor's settings in the whole process, as torchao recommends.

    Raises:
        ValueError: with the sign they do not make 3 to 8 bits.
    """

    exponent_bits: int
    mantissa_bits: int
    set_inductor_config: bool = False

    def __post_init__(self) -> None:
        bits = 1 + self.exponent_bits + self.mantissa_bits
        if self.exponent_bits < 1 or self.mantissa_bits < 0 or not 3 <= bits <= 8:
            raise ValueError(
                f"exponent_bits={self.exponent_bits}, mantissa_bits={self.mantissa_bits}: accepted are "
                "exponent_bits >= 1 and mantissa_bits >= 0 that with the sign make 3 to 8 bits"
            )


def _bias(exponent_bits: int) -> int:
    return (1 << (exponent_bits - 1)) - 1


handled(
    FpxWeightOnlyConfig,
    FpxTensor,
    lambda weight, config: FpxTensor.from_hp(weight, config.exponent_bits, config.mantissa_bits),
)
