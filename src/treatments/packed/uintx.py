"""Unsigned integers of 1 to 7 bits in groups along K, chosen as torchao chooses them and really stored in few bits.

torchao's own IntxWeightOnlyConfig stores a byte per weight whatever the bits; its packed UIntXWeightOnlyConfig left
with 0.17.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchao.core.config import AOBaseConfig
from torchao.quantization import MappingType
from torchao.quantization.quant_primitives import (
    _choose_qparams_and_quantize_scale_only_hqq,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

from src.treatments.packed.bits import pack, unpack
from src.treatments.packed.tensor import PackedTensor, as_matrix, handled

# (weight, bits, group_size) -> codes, scales and zero points as `UintxTensor` holds them, the codes not yet packed
Rule = Callable[[Tensor, int, int], tuple[Tensor, Tensor, Tensor]]


class UintxTensor(PackedTensor):
    """A matrix [N, K] of codes, with a scale and a zero point per group of `group_size` along K.

    Tensors:
        qdata: [packed_rows(N, bits), K], uint8.
        scale: [N, K / group_size], in the dtype of the weight that was quantized.
        zero_point: [N, K / group_size], uint8: the code of 0.0.
    """

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale", "zero_point"]
    tensor_attribute_names: ClassVar[list[str]] = ["bits", "group_size", "dtype"]

    @classmethod
    def from_hp(cls, weight: Tensor, bits: int, group_size: int, hqq: bool = False) -> "UintxTensor":
        """Quantize [N, K], 0.0 being a code; the arithmetic is torchao's.

        Args:
            weight: in the model's dtype.
            group_size: weights along K that share a scale.
            hqq: symmetrically, with the scales of half-quadratic quantization; else asymmetrically over the range.

        Raises:
            ValueError: K is not a multiple of the group; or see `as_matrix`.
        """
        weight = as_matrix(weight)
        if weight.shape[1] % group_size:
            raise ValueError(f"K={weight.shape[1]} is not a multiple of group_size={group_size}")
        codes, scale, zero_point = cls._rule(hqq)(weight, bits, group_size)
        return cls(pack(codes, bits), scale, zero_point, bits, group_size, weight.dtype)

    @classmethod
    def _rule(cls, hqq: bool) -> Rule:
        return _by_hqq if hqq else _by_range

    def dequantize(self) -> Tensor:
        """(code - zero point) * scale, [N, K] in `dtype`."""
        dequantized: Tensor = dequantize_affine(
            unpack(self.qdata, self.bits, self.shape[0]),
            (1, self.group_size),
            self.scale,
            self.zero_point,
            torch.uint8,
            0,
            2**self.bits - 1,
            output_dtype=self.dtype,
        )
        return dequantized


def _by_range(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and zero points as of IntxWeightOnlyConfig with MappingType.ASYMMETRIC, in the weight's dtype."""
    block, largest = (1, group_size), 2**bits - 1
    scale, zero_point = choose_qparams_affine(
        weight,
        MappingType.ASYMMETRIC,
        block,
        torch.uint8,
        0,
        largest,
        zero_point_dtype=torch.uint8,
        keepdim=True,
    )
    codes = quantize_affine(weight, block, scale, zero_point, torch.uint8, 0, largest)
    return codes, scale, zero_point


def _by_hqq(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """As of IntxWeightOnlyConfig with HQQ_SCALE_ONLY: least squares of the scales in turn with the codes."""
    half = 2 ** (bits - 1)
    signed, scale = _choose_qparams_and_quantize_scale_only_hqq(weight, [1, group_size], -half, half - 1)
    return (signed + half).to(torch.uint8), scale, torch.full_like(scale, half, dtype=torch.uint8)


@dataclass
class PackedUintxWeightOnlyConfig(AOBaseConfig):  # type: ignore[misc]
    """Weights as unsigned integers; for torchao's quantize_.

    Args:
        bits: of a weight, 1 to 7.
        group_size: weights along K that share a scale and a zero point.
        hqq: see `UintxTensor.from_hp`.
        set_inductor_config: change inductor's settings in the whole process, as torchao recommends.

    Raises:
        ValueError: values that are not accepted.
    """

    bits: int
    group_size: int = 64
    hqq: bool = False
    set_inductor_config: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bits={self.bits}: accepted are 1 to 7; for 8 take int8wo")
        if self.group_size < 1:
            raise ValueError(f"group_size={self.group_size}: must be at least 1")


handled(
    PackedUintxWeightOnlyConfig,
    UintxTensor,
    lambda weight, config: UintxTensor.from_hp(weight, config.bits, config.group_size, config.hqq),
)
