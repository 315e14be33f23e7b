"""Integer weights of few bits with int8 activations, really stored in few bits.

torchao's Int8DynamicActivationIntxWeightConfig stores a byte per weight, whatever its bits (ARM has other kernels);
scales, codes and activations here are chosen as it chooses them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchao.core.config import AOBaseConfig
from torchao.quantization import MappingType
from torchao.quantization.quant_primitives import choose_qparams_affine, quantize_affine
from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
    _apply_int8_act_asym_per_token_quant_dequant,
)

from src.treatments.packed.tensor import handled
from src.treatments.packed.uintx import Rule, UintxTensor


class DynamicUintxTensor(UintxTensor):
    """Codes around the middle one, which is 0.0; a Linear rounds its input to int8 before it multiplies."""

    def activation(self, x: Tensor) -> Tensor:
        """[..., K] rounded to int8 with a scale and a zero point per token, dequantized."""
        rounded: Tensor = _apply_int8_act_asym_per_token_quant_dequant(x)
        return rounded

    @classmethod
    def _rule(cls, hqq: bool) -> Rule:
        return _symmetric


def _symmetric(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and zero points as of MappingType.SYMMETRIC with signed integers, moved up to unsigned ones."""
    block, half = (1, group_size), 2 ** (bits - 1)
    scale, zero_point = choose_qparams_affine(
        weight,
        MappingType.SYMMETRIC,
        block,
        target_dtype=torch.int8,
        quant_min=-half,
        quant_max=half - 1,
        zero_point_dtype=torch.int8,
        keepdim=True,
    )
    signed = quantize_affine(weight, block, scale, zero_point, torch.int8, -half, half - 1)
    return (signed + half).to(torch.uint8), scale, (zero_point + half).to(torch.uint8)


@dataclass
class PackedInt8DynamicIntxWeightConfig(AOBaseConfig):  # type: ignore[misc]
    """Weights as integers in groups along K, activations as int8 per token; for torchao's quantize_.

    Args:
        bits: of a weight, 1 to 7.
        group_size: weights along K that share a scale.
        set_inductor_config: change inductor's settings in the whole process, as torchao recommends.

    Raises:
        ValueError: values that are not accepted.
    """

    bits: int = 4
    group_size: int = 32
    set_inductor_config: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bits={self.bits}: accepted are 1 to 7; for 8 take int8dq")
        if self.group_size < 1:
            raise ValueError(f"group_size={self.group_size}: must be at least 1")


handled(
    PackedInt8DynamicIntxWeightConfig,
    DynamicUintxTensor,
    lambda weight, config: DynamicUintxTensor.from_hp(weight, config.bits, config.group_size),
)
