"""What the packed formats share: a weight stored in few bits, dequantized wherever a Linear reads it."""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import return_and_correct_aliasing
from torchao.core.config import AOBaseConfig
from torchao.quantization.transform_module import register_quantize_module_handler
from torchao.quantization.utils import recommended_inductor_config_setter
from torchao.utils import TorchAOBaseTensor

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# To the compiler's cache `weight.dequantize()` is one operation, whatever it does: it has to be told of the code.
_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
_CODE = hashlib.sha256(_SOURCES + version("torchao").encode()).hexdigest()


class PackedTensor(TorchAOBaseTensor):  # type: ignore[misc]
    """A matrix [N, K] whose inner tensors are listed in `tensor_data_names`, and can be read by `dequantize`.

    Among them are `qdata`, with K columns, and `scale`, with N rows. Among the names of its attributes is `dtype`,
    that of the dequantized matrix: a cast changes it and nothing else. TorchAOBaseTensor makes flattening, copies
    and pickling of these lists.
    """

    def __new__(cls, *parts: Any) -> Self:
        """Wrap what is stored: the tensors, then the attributes, in the order of their names."""
        held = dict(zip([*cls.tensor_data_names, *cls.tensor_attribute_names], parts, strict=True))
        qdata, dtype = held["qdata"], held.pop("dtype")
        shape = (held["scale"].shape[0], qdata.shape[1])
        made: Self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=qdata.device)
        made.__dict__.update(held)
        return made

    def dequantize(self) -> Tensor:
        """The matrix [N, K] in `dtype`."""
        raise NotImplementedError

    def activation(self, x: Tensor) -> Tensor:
        """What a Linear multiplies the matrix with, of its input [..., K]."""
        return x

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product of a Linear with this weight: [..., N] of x [..., K]."""
        return nn.functional.linear(self.activation(x), self.dequantize(), bias)

    def _stable_hash_for_caching(self) -> str:
        """What the compiler's cache knows this tensor by: everything but the stored values."""
        names, attributes = self.__tensor_flatten__()
        inner = [getattr(self, name) for name in names]
        stored = [(each.dtype, tuple(each.shape), each.stride(), str(each.device)) for each in inner]
        return repr(
            (_CODE, type(self).__qualname__, tuple(self.shape), self.requires_grad, attributes, stored)
        )


def as_matrix(weight: Tensor) -> Tensor:
    """The weight as the formats quantize it.

    Raises:
        ValueError: it is no matrix, or of a dtype that is not of `DTYPES`.
    """
    if weight.dim() != 2 or weight.dtype not in DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(
            f"a weight of shape {[*weight.shape]} in {weight.dtype}; accepted: [N, K] in {names}"
        )
    return weight.detach().contiguous()


def handled(
    config_type: type[AOBaseConfig],
    tensor_type: type[PackedTensor],
    quantize: Callable[[Tensor, Any], PackedTensor],
) -> None:
    """Make a config one of torchao's quantize_, and its tensors ones that torch.load takes.

    Args:
        config_type: of the configs, which have `set_inductor_config`.
        tensor_type: of what `quantize` returns.
        quantize: what is put in place of a weight [N, K], with a config.
    """

    def replace(module: nn.Module, config: Any, *, parameter_name: str = "weight") -> nn.Module:
        if config.set_inductor_config:
            recommended_inductor_config_setter()
        packed = quantize(getattr(module, parameter_name), config)
        setattr(module, parameter_name, nn.Parameter(packed, requires_grad=False))
        return module

    register_quantize_module_handler(config_type)(replace)
    torch.serialization.add_safe_globals([tensor_type])


def _linear(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x, weight, *rest = args
    product: Tensor = weight.linear(x, *rest, **kwargs)
    return product


def _to_copy(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PackedTensor:
    """To another device, another dtype, or both; torchao's own leaves the dtype as it was, without a word."""
    packed, *rest = args
    target = packed._get_to_kwargs(*rest, **kwargs)
    names, attributes = packed.__tensor_flatten__()
    inner = [
        getattr(packed, name).to(target["device"], non_blocking=target["non_blocking"], copy=True)
        for name in names
    ]
    copied = type(packed)(*inner, *(attributes | {"dtype": target["dtype"]}).values())
    aliased: PackedTensor = return_and_correct_aliasing(func, args, kwargs, copied)
    return aliased


PackedTensor.implements(torch.ops.aten.linear.default)(_linear)
PackedTensor.implements_torch_function(nn.functional.linear)(_linear)
PackedTensor.implements(torch.ops.aten._to_copy.default)(_to_copy)
