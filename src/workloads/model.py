"""Models from their YAML: random weights made in place, local or hub weights through from_pretrained."""

import math
from collections.abc import Callable
from typing import Any

import torch
from accelerate import init_empty_weights
from hydra.utils import get_class
from torch import nn

from src.config.errors import ConfigError
from src.config.schema import ComponentConf, ModelConf


def build_model(
    conf: ModelConf | ComponentConf, device: torch.device, dtype: torch.dtype, seed: int, where: str = "model"
) -> nn.Module:
    """The model in eval mode on the device, in `dtype` from the start: never a float32 copy of it.

    Dtypes are those that from_pretrained would give: what the class keeps in float32 (diffusers'
    ``_keep_in_fp32_modules``: modules and single parameters) is in float32, and buffers that no checkpoint holds
    stay as the constructor made them.

    Raises:
        ConfigError: weights of a source that the class cannot load.
    """
    factory = dict(conf.factory)
    cls = get_class(factory.pop("_target_"))
    if conf.weights.source != "random":
        return _pretrained(conf, cls, dtype, where).to(device).eval()
    with init_empty_weights(include_buffers=False):
        model: nn.Module = cls(**factory)
    _fill(model, conf.weights.std, device, dtype, seed)
    return model.eval().requires_grad_(False)


def empty_model(
    conf: ModelConf | ComponentConf, device: torch.device, dtype: torch.dtype, seed: int, where: str = "model"
) -> nn.Module:
    """The model of `build_model` without weights: its parameters are on the meta device, its buffers are real.

    Raises:
        ConfigError: weights of a source whose structure the class cannot read.
    """
    factory = dict(conf.factory)
    cls = get_class(factory.pop("_target_"))
    with init_empty_weights(include_buffers=False):
        model: nn.Module = cls(**factory) if conf.weights.source == "random" else _structure(conf, cls, where)
    _move_buffers(model, device, dtype)
    return model.eval().requires_grad_(False)


def _structure(conf: ModelConf | ComponentConf, cls: Any, where: str) -> nn.Module:
    """A diffusers model from the configuration file of its weights."""
    if not hasattr(cls, "from_config") or not hasattr(cls, "load_config"):
        raise ConfigError(
            f"{where}.weights.source={conf.weights.source}: {cls.__name__} cannot be made from its config alone"
        )
    model = cls.from_config(cls.load_config(conf.weights.id, **_place(conf)))
    assert isinstance(model, nn.Module)
    return model


def _place(conf: ModelConf | ComponentConf) -> dict[str, Any]:
    """Where from_pretrained finds weights that are given by their id."""
    extra = {} if conf.weights.subfolder is None else {"subfolder": conf.weights.subfolder}
    return {"local_files_only": conf.weights.source == "local", **extra}


def _pretrained(conf: ModelConf | ComponentConf, cls: Any, dtype: torch.dtype, where: str) -> nn.Module:
    if not hasattr(cls, "from_pretrained"):
        raise ConfigError(
            f"{where}.weights.source={conf.weights.source}: {cls.__name__} has no from_pretrained; accepted: random"
        )
    if conf.weights.id is None:
        raise ConfigError(
            f"{where}.weights.id=null: needed with {where}.weights.source={conf.weights.source}"
        )
    model = cls.from_pretrained(conf.weights.id, torch_dtype=dtype, **_place(conf))
    assert isinstance(model, nn.Module)
    return model.requires_grad_(False)


def _fill(model: nn.Module, std: float, device: torch.device, dtype: torch.dtype, seed: int) -> None:
    """Replace every meta parameter by seeded values, and move buffers, which hold real content."""
    generator = torch.Generator(device=device).manual_seed(seed)
    own = _own_dtypes(model, dtype)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = torch.empty(parameter.shape, device=device, dtype=own(path, name))
            _initialize(value, name, std, generator)
            setattr(module, name, nn.Parameter(value, requires_grad=False))
    _move_buffers(model, device, dtype)


def _move_buffers(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    own = _own_dtypes(model, dtype)
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            stored = buffer.is_floating_point() and name not in module._non_persistent_buffers_set
            module._buffers[name] = buffer.to(
                device=device, dtype=own(path, name) if stored else buffer.dtype
            )


def _own_dtypes(model: nn.Module, dtype: torch.dtype) -> Callable[[str, str], torch.dtype]:
    """The dtype of a tensor by its module's path and its name."""
    keep = frozenset(getattr(model, "_keep_in_fp32_modules", None) or ())
    return lambda path, name: torch.float32 if keep.intersection([*path.split("."), name]) else dtype


def _initialize(value: torch.Tensor, name: str, std: float, generator: torch.Generator) -> None:
    """Vectors as a norm layer has them (weight 1, bias 0), everything else normal."""
    if value.dim() <= 1:
        value.fill_(1.0 if name == "weight" else 0.0)
    else:
        value.normal_(0.0, std, generator=generator)


def size_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers as stored, looking inside quantized tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor_bytes(tensor) for tensor in {id(t): t for t in tensors}.values())


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's values as stored, looking inside a quantized one."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(tensor_bytes(getattr(tensor, name)) for name in names)
    return math.prod(tensor.shape) * tensor.element_size()
