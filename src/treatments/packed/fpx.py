"""Floats of 3 to 8 bits with one scale per output channel: what torchao's FPXWeightOnlyConfig did until 0.15."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchao.core.config import AOBaseConfig
from torchao.prototype.custom_fp_utils import _f32_to_floatx_unpacked
from torchao.quantization.transform_module import register_quantize_module_handler

from src.treatments.packed.bits import pack, unpack
from src.treatments.packed.tensor import PackedTensor, as_matrix, replace_weight

_F32_BIAS, _F32_MANTISSA = 127, 23


def largest_value(exponent_bits: int, mantissa_bits: int) -> float:
    """The largest number of the format: all codes are finite, so that of exponent and mantissa all ones."""
    top = 2**exponent_bits - 1 - _bias(exponent_bits)
    return float(2**top * (2 - 2**-mantissa_bits))


def decode(codes: Tensor, exponent_bits: int, mantissa_bits: int) -> Tensor:
    """The numbers that codes stand for, exactly.

    The significand is taken as an integer and multiplied by a power of two that is put together from bits, and is a
    normal float32 in every format: no table to look up, no branch, no subnormal that a device might flush to zero.

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
    offset = _F32_BIAS - _bias(exponent_bits) - mantissa_bits
    sign = (code >> (exponent_bits + mantissa_bits)) << 31
    power = ((exponent.clamp(min=1) + offset) << _F32_MANTISSA) | sign
    return significand.to(torch.float32) * power.view(torch.float32)


class FpxTensor(PackedTensor):
    """A matrix [N, K] of small floats, with a scale per row.

    Tensors:
        qdata: [N, packed_width(K, 1 + exponent_bits + mantissa_bits)], uint8.
        scale: [N], float32: of a format with many exponent bits it is too small for float16.
    """

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale"]
    tensor_attribute_names: ClassVar[list[str]] = ["exponent_bits", "mantissa_bits", "columns", "dtype"]

    def __new__(
        cls,
        qdata: Tensor,
        scale: Tensor,
        exponent_bits: int,
        mantissa_bits: int,
        columns: int,
        dtype: torch.dtype,
    ) -> "FpxTensor":
        """Wrap what is stored."""
        shape = (qdata.shape[0], columns)
        made: FpxTensor = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=qdata.device)
        made.qdata, made.scale, made.columns = qdata, scale, columns
        made.exponent_bits, made.mantissa_bits = exponent_bits, mantissa_bits
        return made

    @classmethod
    def from_hp(cls, weight: Tensor, exponent_bits: int, mantissa_bits: int) -> "FpxTensor":
        """Quantize [N, K]: the largest weight of a row becomes the largest number, the others go to the nearest.

        The cast is torchao's: ties go to even.

        Raises:
            ValueError: see `as_matrix`.
        """
        weight = as_matrix(weight)
        rows = weight.float()
        scale = rows.abs().amax(1).clamp(min=1e-12) / largest_value(exponent_bits, mantissa_bits)
        codes = _f32_to_floatx_unpacked(rows / scale.unsqueeze(1), exponent_bits, mantissa_bits)
        packed = pack(codes, 1 + exponent_bits + mantissa_bits)
        return cls(packed, scale, exponent_bits, mantissa_bits, weight.shape[1], weight.dtype)

    def dequantize(self) -> Tensor:
        """Number * scale, in float32 until the end; [N, K] in `dtype`."""
        codes = unpack(self.qdata, 1 + self.exponent_bits + self.mantissa_bits, self.columns)
        numbers = decode(codes, self.exponent_bits, self.mantissa_bits)
        return (numbers * self.scale.unsqueeze(1)).to(self.dtype)


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
    return 2 ** (exponent_bits - 1) - 1


def _quantize(module: nn.Module, config: FpxWeightOnlyConfig, *, parameter_name: str = "weight") -> nn.Module:
    return replace_weight(
        module,
        parameter_name,
        lambda weight: FpxTensor.from_hp(weight, config.exponent_bits, config.mantissa_bits),
        config.set_inductor_config,
    )


register_quantize_module_handler(FpxWeightOnlyConfig)(_quantize)
torch.serialization.add_safe_globals([FpxTensor])
