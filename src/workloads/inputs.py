"""Example inputs: tensors made from shapes of named dimensions."""

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_method

from src.config.errors import ConfigError
from src.config.model_schema import InputConf, ModelConf, PipelineConf
from src.workloads.dims import evaluate


def normal(
    shape: list[int], generator: torch.Generator, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Standard normal values."""
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)


def flux_image_ids(
    shape: list[int], generator: torch.Generator, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Position ids of Flux's image tokens, [rows * columns, 3] of (0, row, column), from [rows, columns, 3]."""
    rows, columns, _ = shape
    ids = torch.zeros(rows, columns, 3, device=device, dtype=dtype)
    ids[..., 1] = torch.arange(rows, device=device, dtype=dtype)[:, None]
    ids[..., 2] = torch.arange(columns, device=device, dtype=dtype)[None, :]
    return ids.reshape(rows * columns, 3)


def make_inputs(
    conf: ModelConf | PipelineConf,
    dims: Mapping[str, int],
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    where: str = "model",
) -> dict[str, Any]:
    """Keyword arguments of one call: the tensors of ``conf.inputs`` and the rest of ``conf.call``.

    Raises:
        ConfigError: a shape that names an unknown dimension, or is empty.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    tensors = {
        name: _make(tensor, dims, generator, device, dtype, f"{where}.inputs.{name}.shape")
        for name, tensor in conf.inputs.items()
    }
    return tensors | conf.call


def _make(
    conf: InputConf,
    dims: Mapping[str, int],
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype,
    where: str,
) -> torch.Tensor:
    shape = [evaluate(side, dims, where) for side in conf.shape]
    if min(shape, default=1) < 1:
        raise ConfigError(f"{where}={conf.shape}: gives {shape}; a dimension is at least 1")
    if conf.dtype is not None:
        dtype = getattr(torch, conf.dtype)
    if conf.fill is not None:
        return torch.full(shape, conf.fill, device=device, dtype=dtype)
    tensor = get_method(conf.init)(shape, generator, device, dtype)
    assert isinstance(tensor, torch.Tensor)
    return tensor
