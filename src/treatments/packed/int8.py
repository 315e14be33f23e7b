"""int8 weights that inductor compiles as one matmul: converted where they are read, scaled where the sum is written.

torchao's int8wo multiplies by a scale in the dtype of the activations. From torch 2.9 on, inductor rewrites that into
``aten._weight_int8pack_mm`` (torch/_inductor/fx_passes/quantization.py), whose CUDA kernel is naive. Here the scale
stays float32, which the rewriting does not take, and is applied to the sum, so that the conversion of the weights is
a cast and nothing else: the only prologue that inductor fuses into its Triton matmul.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchao.core.config import AOBaseConfig
from torchao.quantization import PerRow
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor

from src.treatments.packed.tensor import PackedTensor, as_matrix, handled


class ScaledInt8Tensor(PackedTensor):
    """A matrix [N, K] of int8 with a scale per row.

    Tensors:
        qdata: [N, K], int8.
        scale: [N], float32.
    """

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale"]
    tensor_attribute_names: ClassVar[list[str]] = ["dtype"]

    @classmethod
    def from_hp(cls, weight: Tensor) -> "ScaledInt8Tensor":
        """Quantize [N, K]; codes and scales are torchao's of Int8WeightOnlyConfig.

        Raises:
            ValueError: see `as_matrix`.
        """
        weight = as_matrix(weight)
        own: Any = Int8Tensor.from_hp(weight, PerRow())
        return cls(own.qdata, own.scale.flatten().float(), weight.dtype)

    def dequantize(self) -> Tensor:
        """Code * scale, [N, K] in `dtype`."""
        dequantized: Tensor = (self.qdata.float() * self.scale.unsqueeze(1)).to(self.dtype)
        return dequantized

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., K] times the codes, then scale and bias in float32; [..., N] in the dtype of `x`.

        float16 has no room for sums of codes, which are up to 127: there the weights are scaled first.
        """
        rows = x.reshape(-1, x.shape[-1])
        if x.dtype is torch.float16:
            scaled = torch.mm(rows, self.dequantize().t().to(x.dtype)).float()
        else:
            scaled = torch.mm(rows, self.qdata.t().to(x.dtype)).float() * self.scale
        if bias is not None:
            scaled = scaled + bias
        product: Tensor = scaled.to(x.dtype).reshape(*x.shape[:-1], self.qdata.shape[0])
        return product


@dataclass
class Int8ScaledWeightOnlyConfig(AOBaseConfig):  # type: ignore[misc]
    """int8 weights with one scale per output channel, applied after the matmul; for torchao's quantize_.

    Args:
        set_inductor_config: change inductor's settings in the whole process, as torchao recommends.
    """

    set_inductor_config: bool = False


handled(Int8ScaledWeightOnlyConfig, ScaledInt8Tensor, lambda weight, _: ScaledInt8Tensor.from_hp(weight))
