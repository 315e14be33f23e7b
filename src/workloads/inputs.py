"""Example inputs: tensors made from shapes of named dimensions, nested as the model takes them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_method

from src.config.errors import ConfigError
from src.config.schema.model import InputConf, ModelConf, PipelineConf
from src.workloads.dims import count_of, resolved, shape_of


def normal(
    shape: list[int], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Standard normal values."""
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)


def coordinates(
    shape: list[int], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Where each cell of a grid lies, [cells, axes of the grid]: of Flux's image tokens 0, their row and column."""
    axes = [torch.arange(side, device=device, dtype=dtype) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(shape))


def classes_of_ten(
    shape: list[int], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Class labels: 0, 1, ..., 9, and again from 0."""
    return torch.arange(math.prod(shape), device=device).remainder(10).reshape(shape).to(dtype)


@dataclass
class _Maker:
    """Makes tensors one after another, each from the next values of one generator."""

    dims: Mapping[str, int]
    generator: torch.Generator | None  # on meta, where nothing is drawn, there is none
    device: torch.device
    dtype: torch.dtype

    def tree(self, conf: Any, where: str) -> Any:
        """The tensor of an `InputConf`; of a mapping or a list one for each of its values."""
        if isinstance(conf, Mapping):
            return {name: self.tree(value, f"{where}.{name}") for name, value in conf.items()}
        if isinstance(conf, list):
            return [self.tree(value, f"{where}[{index}]") for index, value in enumerate(conf)]
        if not isinstance(conf, InputConf):
            raise ConfigError(f"{where}={conf}: not a tensor, whose shape is given: {{shape: [batch, 64]}}")
        if conf.count is None:
            return self.tensor(conf, where)
        number = count_of(conf.count, self.dims, f"{where}.count")
        return [self.tensor(conf, where) for _ in range(number)]

    def tensor(self, conf: InputConf, where: str) -> torch.Tensor:
        """One tensor."""
        shape = shape_of(conf.shape, self.dims, f"{where}.shape")
        dtype = self.dtype if conf.dtype is None else getattr(torch, conf.dtype)
        if conf.fill is not None:
            return torch.full(shape, conf.fill, device=self.device, dtype=dtype)
        made = get_method(conf.init)(shape, self.generator, self.device, dtype)
        assert isinstance(made, torch.Tensor)
        return made


def make_inputs(
    conf: ModelConf | PipelineConf,
    dims: Mapping[str, int],
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    where: str = "model",
) -> dict[str, Any]:
    """Keyword arguments of one call: the tensors of ``conf.inputs`` and the rest of ``conf.call``.

    What both have as a set of names is one: ``added_cond_kwargs`` may have its tensors in one and its numbers in the
    other.

    Raises:
        ConfigError: a shape or an argument that names an unknown dimension; an empty shape.
    """
    generator = None if device.type == "meta" else torch.Generator(device=device).manual_seed(seed)
    made = _Maker(dims, generator, device, dtype).tree(conf.inputs, f"{where}.inputs")
    return merged(made, resolved(conf.call, dims, f"{where}.call"))


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both; of a name that both have the second's value, or the two merged where both are mappings."""
    found = dict(first)
    for name, value in second.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found
