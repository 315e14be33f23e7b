"""Models from their YAML: random weights made in place, local or hub weights through from_pretrained."""

import math
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from accelerate import init_empty_weights
from hydra.utils import instantiate
from torch import nn

from src.config.errors import ConfigError
from src.config.model_schema import ComponentConf, ModelConf
from src.config.schema import RootConf
from src.workloads.initial import Scales
from src.workloads.sources import HYDRAS, factory_of, load_pretrained, pretrained_config
from src.workloads.unquantized import refuse_quantized

Heard = Callable[[nn.Module], None]


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
    model = outline(conf, dtype, where)
    fill(model, conf, device, dtype, seed, made_on=made_on)
    return model


def weights_made_on(cfg: RootConf) -> torch.device | None:
    """Whose random generator makes the weights of both arms: the CPU's and CUDA's give different values.

    Returns:
        The host's with ``quant.where=cpu``, whose weights are quantized before any device sees them; else None,
        the run's device.
    """
    return torch.device("cpu") if cfg.quant.where == "cpu" else None


def outline(conf: ModelConf | ComponentConf, dtype: torch.dtype, where: str = "model") -> nn.Module:
    """The model before `fill`: random weights are only shapes (meta), others lie on the host.

    Raises:
        ConfigError: weights of a source that the class cannot load.
        RunEndedError: `unsupported`, the weights are quantized.
    """
    if conf.weights.source == "random":
        model = _constructed(conf, where).eval().requires_grad_(False)
    else:
        model = load_pretrained(conf, factory_of(conf, where), dtype, where)
    refuse_quantized(model, conf, where)
    return model


def empty_model(
    conf: ModelConf | ComponentConf, device: torch.device, dtype: torch.dtype, where: str = "model"
) -> nn.Module:
    """The model of `build_model` without weights: its parameters are on the meta device, its buffers are real.

    Raises:
        ConfigError: weights of a source whose structure the class cannot read.
    """
    model = _constructed(conf, where) if conf.weights.source == "random" else structure(conf, where)
    own = _own_dtypes(model, dtype)
    for path, module in model.named_modules():
        _move_buffers(module, partial(own, path), device)
    return model.eval().requires_grad_(False)


def _constructed(conf: ModelConf | ComponentConf, where: str) -> nn.Module:
    """What the factory makes of its arguments, parameters on meta; an argument with a `_target_` is made first."""
    named = {name: _argument(value) for name, value in conf.factory.items() if name not in HYDRAS}
    make = partial(factory_of(conf, where), *_argument(conf.factory.get("_args_", [])), **named)
    try:
        with init_empty_weights(include_buffers=False):
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory_of(conf, "model")(*_argument(conf.factory.get("_args_", [])), **named)
    assert isinstance(model, nn.Module)
    for pattern in zero:
        found = [module for path, module in model.named_modules() if fnmatchcase(path, pattern)]
        if not found:
            raise ConfigError(f"model.training.zero: {conf.name} has no module {pattern}")
        for parameter in (each for module in found for each in module.parameters()):
            nn.init.zeros_(parameter)
    return model


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
    with init_empty_weights(include_buffers=False):
        return _tied(cls.from_config(config) if hasattr(cls, "load_config") else cls(config))


def fill(
    model: nn.Module,
    conf: ModelConf | ComponentConf,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    *,
    made_on: torch.device | None = None,
    only: Collection[nn.Module] | None = None,
    filled: Heard | None = None,
) -> None:
    """Give every module of an outline its weights on the device, one module after another.

    Args:
        made_on: as in `build_model`.
        only: the modules that are wanted; the others stay as they are (their random values are passed over).
        filled: hears of each wanted module as soon as its own parameters and buffers are on the device.
    """
    generator = torch.Generator(device=made_on or device).manual_seed(seed)
    own, scales = _own_dtypes(model, dtype), Scales(model, conf.weights.std)
    there: WeakValueDictionary[int, nn.Parameter] = WeakValueDictionary()  # what is shared stays shared
    for path, module in model.named_modules():
        wanted = only is None or module in only
        if conf.weights.source != "random":
            if wanted:
                _move(module, device, there)
        else:
            std_of = partial(scales.of, path, module)
            _make(module, partial(own, path), std_of, generator, device, there if wanted else None)
        if wanted and filled:
            filled(module)


def _make(
    module: nn.Module,
    own: Callable[[str], torch.dtype],
    std_of: Callable[[str, torch.Tensor], float],
    generator: torch.Generator,
    device: torch.device,
    there: WeakValueDictionary[int, nn.Parameter] | None,
) -> None:
    """Replace a module's own meta parameters by seeded values, and move buffers, which hold real content.

    Args:
        there: what has been made so far, by the parameter that it replaces; None: nothing is wanted of this module.
    """
    for name, parameter in module.named_parameters(recurse=False):
        made = None if there is None else there.get(id(parameter))
        if made is None:
            value = torch.empty(parameter.shape, device=generator.device, dtype=own(name))
            _initialize(value, name, std_of, generator)
            if there is None:
                continue
            made = there[id(parameter)] = nn.Parameter(value.to(device), requires_grad=False)
        setattr(module, name, made)
    if there is not None:
        _move_buffers(module, own, device)


def _move_buffers(module: nn.Module, own: Callable[[str], torch.dtype], device: torch.device) -> None:
    """Move a module's own buffers; those that a checkpoint holds take the model's dtype."""
    for name, buffer in module.named_buffers(recurse=False):
        stored = buffer.is_floating_point() and name not in module._non_persistent_buffers_set
        module._buffers[name] = buffer.to(device=device, dtype=own(name) if stored else buffer.dtype)


def _own_dtypes(model: nn.Module, dtype: torch.dtype) -> Callable[[str, str], torch.dtype]:
    """The dtype of a tensor by its module's path and its name."""
    keep = frozenset(getattr(model, "_keep_in_fp32_modules", None) or ())
    strict = getattr(model, "_keep_in_fp32_modules_strict", None)
    if strict is not None and dtype is not torch.float16:  # transformers: the others only from float16 up
        keep = frozenset(strict)
    return lambda path, name: torch.float32 if keep.intersection([*path.split("."), name]) else dtype


def _move(module: nn.Module, device: torch.device, there: WeakValueDictionary[int, nn.Parameter]) -> None:
    """Move a module's own parameters and buffers."""
    for name, parameter in module.named_parameters(recurse=False):
        moved = there.get(id(parameter))
        if moved is None:
            moved = there[id(parameter)] = nn.Parameter(parameter.to(device), requires_grad=False)
        setattr(module, name, moved)
    for name, buffer in module.named_buffers(recurse=False):
        module._buffers[name] = buffer.to(device)


def _initialize(
    value: torch.Tensor, name: str, std_of: Callable[[str, torch.Tensor], float], generator: torch.Generator
) -> None:
    """Vectors as a norm layer has them (weight 1, bias 0), everything else normal."""
    if value.dim() <= 1:
        value.fill_(1.0 if name == "weight" else 0.0)
    else:
        value.normal_(0.0, std_of(name, value), generator=generator)


def size_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers as stored, looking inside quantized tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor_bytes(tensor) for tensor in {id(t): t for t in tensors}.values())


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes as stored, looking inside quantized tensors."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(tensor_bytes(getattr(tensor, name)) for name in names)
    return math.prod(tensor.shape) * tensor.element_size()
