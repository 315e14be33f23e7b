"""Inductor's options as part of a treatment: the same for both arms, from where they come, and what each arm got.

torchao's configs set some for the whole process (``set_inductor_config=True``), which reaches only what is compiled
after. Here they are asked for by ``compile.tuning=recommended``, read off torchao's own function, and set for both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._inductor
import torch._inductor.config as config

from src.config.errors import ConfigError
from src.config.schema.quant import QuantConf
from src.config.schema.root import CompileConf
from src.devices.capability import quant_conf

_AT_START = config.get_config_copy()


def asked_options(
    conf: CompileConf, quant: QuantConf | None = None, kind: str = ""
) -> dict[str, dict[str, Any]]:
    """Who asks for which options, a later one over an earlier; nothing where inductor compiles nothing.

    Args:
        quant: the scheme of the treated arm; autoquant asks for what its candidates do.
        kind: of the device: ``cpu``, ``cuda``.
    """
    if conf.scope == "none" or conf.backend != "inductor":
        return {}
    recommended = recommended_options() if conf.tuning == "recommended" else {}
    needed = _needed(quant, kind) if quant else {}
    asked = {"compile.tuning": recommended, "quant.inductor": needed, "compile.options": conf.options}
    return {source: options for source, options in asked.items() if options}


def merged_options(asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One option, one value.

    Raises:
        ConfigError: inductor has no such option.
    """
    for source, options in asked.items():
        for name in options.keys() - _AT_START.keys():
            raise ConfigError(f"{source}.{name}: torch's inductor has no such option")
    return {name: value for options in asked.values() for name, value in options.items()}


def recommended_options() -> dict[str, Any]:
    """What torchao's setter changes here, seen by letting it; afterwards all is as before."""
    from torchao.quantization.utils import recommended_inductor_config_setter  # a plan does without torchao

    with _restored() as before:
        recommended_inductor_config_setter()
        after = config.get_config_copy()
    return {name: value for name, value in after.items() if value != before[name]}


@contextmanager
def kept_options() -> Iterator[None]:
    """What a torchao config sets for the whole process inside is undone: the other arm did not get it."""
    with _restored():
        yield


def options_of_mode(mode: str | None) -> dict[str, Any]:
    """What a compile mode sets; nothing without one."""
    return dict(torch._inductor.list_mode_options(mode)) if mode else {}


def uses_cuda_graphs(conf: CompileConf) -> bool:
    """Whether the compile mode, or an option given beside it, turns CUDA graphs on."""
    if conf.scope == "none" or conf.backend != "inductor":
        return False
    return bool((options_of_mode(conf.mode) | conf.options).get("triton.cudagraphs"))


def options_in_effect() -> dict[str, Any]:
    """The options that are not what they were when this module was imported, for the record."""
    now = config.get_config_copy()
    return {name: _plain(value) for name, value in sorted(now.items()) if value != _AT_START[name]}


@contextmanager
def _restored() -> Iterator[dict[str, Any]]:
    before = config.get_config_copy()
    try:
        yield before
    finally:
        for name, value in config.get_config_copy().items():
            if value != before[name]:
                setattr(config, name, before[name])


def _needed(quant: QuantConf, kind: str) -> dict[str, Any]:
    schemes = [quant, *(quant_conf(entry) for entry in quant.candidates.values())]
    return {name: value for scheme in schemes for name, value in scheme.on(kind).inductor.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
