"""Models from their YAML: random weights made in place, local or hub weights through from_pretrained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from accelerate import init_empty_weights
from hydra.utils import instantiate
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from src.config.errors import ConfigError
from src.config.schema.model import ComponentConf, ModelConf
from src.config.schema.root import RootConf
from src.workloads.weights.parameters import fill, move_buffers, own_dtypes
from src.workloads.weights.sources import HYDRAS, factory_of, load_pretrained, pretrained_config
from src.workloads.weights.unquantized import refuse_quantized


def build_model(
    conf: ModelConf | ComponentConf,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    where: str = "model",
    made_on: torch.device | None = None,
) -> nn.Module:
    """The model in eval mode on the device, in `dtype` from the start: never a float32 copy of it.

    Dtypes are those that from_pretrained would give: what the class keeps in float32 (``_keep_in_fp32_modules``:
    modules and single parameters, in transformers only with float16) is in float32, and buffers that no checkpoint
    holds stay as the constructor made them.

    Args:
        made_on: the device whose random generator makes the weights, which are moved one by one; None: `device`.

    Raises:
        ConfigError: weights of a source that the class cannot load.
        RunEndedError: `unsupported`, the weights are quantized.
    """
    model = outline(conf, dtype, where, seed)
    fill(model, conf, device, dtype, seed, made_on=made_on)
    return model


def weights_made_on(cfg: RootConf) -> torch.device | None:
    """Whose random generator makes the weights of both arms: the CPU's and CUDA's give different values.

    Returns:
        The host's with ``quant.where=cpu``, whose weights are quantized before any device sees them; else None,
        the run's device.
    """
    return torch.device("cpu") if cfg.quant.where == "cpu" else None


def outline(
    conf: ModelConf | ComponentConf, dtype: torch.dtype, where: str = "model", seed: int = 0
) -> nn.Module:
    """The model before `fill`: random weights are only shapes (meta), others lie on the host.

    Args:
        seed: of what the constructor itself draws, such as a buffer of random frequencies.

    Raises:
        ConfigError: weights of a source that the class cannot load.
        RunEndedError: `unsupported`, the weights are quantized.
    """
    with seeded(seed):
        if conf.weights.source == "random":
            model = _constructed(conf, where).eval().requires_grad_(False)
        else:
            model = load_pretrained(conf, factory_of(conf, where), dtype, where)
    refuse_quantized(model, conf, where)
    return model


def empty_model(
    conf: ModelConf | ComponentConf,
    device: torch.device,
    dtype: torch.dtype,
    where: str = "model",
    seed: int = 0,
) -> nn.Module:
    """The model of `build_model` without weights: its parameters are on the meta device, its buffers are real.

    Args:
        seed: as in `outline`.

    Raises:
        ConfigError: weights of a source whose structure the class cannot read.
    """
    with seeded(seed):
        model = _constructed(conf, where) if conf.weights.source == "random" else structure(conf, where)
    own = own_dtypes(model, dtype)
    for path, module in model.named_modules():
        move_buffers(module, partial(own, path), device)
    return model.eval().requires_grad_(False)


def _constructed(conf: ModelConf | ComponentConf, where: str) -> nn.Module:
    """What the factory makes of its arguments, parameters on meta; an argument with a `_target_` is made first."""
    named = {name: _argument(value) for name, value in conf.factory.items() if name not in HYDRAS}
    make = partial(factory_of(conf, where), *_argument(conf.factory.get("_args_", [])), **named)
    try:
        with _on_meta():
            model = make()
    except (TypeError, NotImplementedError):  # it works on weights, as one that quantizes does
        model = make()
    if not isinstance(model, nn.Module):
        target = conf.factory["_target_"]
        raise ConfigError(
            f"{where}.factory._target_={target}: gives {type(model).__name__}, a nn.Module is wanted"
        )
    return _tied(model)


def initial_model(conf: ModelConf, seed: int, zero: Sequence[str] = ()) -> nn.Module:
    """The model as its constructor makes it, in float32 on the host, from the seed: where a training begins.

    Args:
        conf: of the model; its weights are not looked at.
        seed: of what the constructor draws.
        zero: patterns of the names of modules whose parameters are 0 instead.

    Raises:
        ConfigError: a pattern that no module's name has.
    """
    named = {name: _argument(value) for name, value in conf.factory.items() if name not in HYDRAS}
    with seeded(seed):
        model = factory_of(conf, "model")(*_argument(conf.factory.get("_args_", [])), **named)
    assert isinstance(model, nn.Module)
    for pattern in zero:
        found = [module for path, module in model.named_modules() if fnmatchcase(path, pattern)]
        if not found:
            raise ConfigError(f"model.training.zero: {conf.name} has no module {pattern}")
        for parameter in (each for module in found for each in module.parameters()):
            nn.init.zeros_(parameter)
    return model


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the host's global generator starts from a seed; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _on_meta() -> Iterator[None]:
    """Inside, modules get their parameters on meta; what is given to several modules is one parameter in all.

    accelerate makes a new one wherever one is given, so that layers tied by a constructor would be untied.
    """
    made: Any = WeakIdKeyDictionary()  # what was given -> what it is on meta
    with init_empty_weights(include_buffers=False):
        on_meta = nn.Module.register_parameter

        def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
            on_meta(module, name, parameter)
            if parameter is not None:
                own = made.setdefault(parameter, module._parameters[name])
                module._parameters[name] = made[own] = own

        with patch.object(nn.Module, "register_parameter", register):
            yield


def _tied(model: nn.Module) -> nn.Module:
    """What transformers ties is not, once it is on meta: tied again."""
    tie: Any = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    return model


def _argument(value: Any) -> Any:
    """An argument of a factory: what has a `_target_`, at whatever depth, is made first."""
    if isinstance(value, list):
        return [_argument(each) for each in value]
    if isinstance(value, dict) and "_target_" not in value:
        return {name: _argument(each) for name, each in value.items()}
    return instantiate(value, _convert_="all") if isinstance(value, dict) else value


def structure(conf: ModelConf | ComponentConf, where: str) -> nn.Module:
    """A model of diffusers or transformers from the configuration file of its weights; its parameters are on meta.

    Raises:
        ConfigError: a class of another library.
    """
    cls = factory_of(conf, where)
    config = pretrained_config(cls, conf, where)
    with _on_meta():
        return _tied(cls.from_config(config) if hasattr(cls, "load_config") else cls(config))
