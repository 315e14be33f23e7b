"""What a scheme's own fields cannot say: its configs, its candidates, the parameters that it has."""

import json
from collections.abc import Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from functools import cache
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from src.checks.signatures import defined_as, mistakes
from src.config.errors import explain
from src.config.schema.quant import SCHEME_PARAMETERS, QuantConf
from src.devices.capability import quant_conf

_PER_LAYER = "torchao.quantization.quant_api.FqnToConfig"


def scheme_mistakes(quant: QuantConf, path: str) -> Iterator[str]:
    """What is wrong with a scheme, one line each."""
    yield from _foreign_parameters(quant, path)
    yield from _where_and_via(quant, path)
    yield from mistakes({"_target_": quant._target_}, path.removesuffix("."), later=True)
    yield from mistakes(quant.optimizer, f"{path}optimizer", later=True)
    configs = {"config": quant.config, "emulation.config": quant.emulation.config}
    configs |= {f"per_device.{kind}.config": each.config for kind, each in quant.per_device.items()}
    for key, config in configs.items():
        yield from _one_for_all(config, f"{path}{key}", path)
        yield from mistakes(config, f"{path}{key}", later=True)
        if config.get("set_inductor_config"):
            yield (
                f"{path}{key}.set_inductor_config=true: would change the treated arm alone; "
                "compile.tuning=recommended sets torchao's options for both"
            )
    for name, entry in quant.candidates.items():
        key = f"{path}candidates.{name}"
        if not isinstance(entry, dict):
            yield f"{key}={entry}: not a scheme; give +quant@quant.candidates.{name}=int8wo"
        elif "_target_" in entry:
            yield f"{key}: not a candidate; one is a torchao config that is the same for every layer"
        elif problem := _problem_of_entry(json.dumps(entry, default=str)):
            yield f"{key}: {problem}"
        else:
            yield from mistakes(entry, key, later=True)


@cache
def _problem_of_entry(entry: str) -> str:
    """Why a candidate is no entry of conf/quant."""
    try:
        quant_conf(json.loads(entry))
    except (OmegaConfBaseException, ValueError) as error:
        return explain(error)
    return ""


def _one_for_all(config: dict[str, Any], key: str, path: str) -> Iterator[str]:
    """torchao's own choice of layers would pass by the layer table, its rules and its reasons."""
    target = config.get("_target_")
    try:
        known = isinstance(target, str) and defined_as(target) == _PER_LAYER
    except LookupError:
        return
    if known:
        yield (
            f"{key}._target_={target}: chooses layers by itself, which here {path}layers does: give one config, and "
            f"the layers by {path}layers.include=[REGEX] or exclude=[REGEX]; a scheme for each layer is what "
            "quant=autoquant finds"
        )


def _foreign_parameters(quant: QuantConf, path: str) -> Iterator[str]:
    """Parameters of other schemes that were given a value, and own ones that lack it."""
    for field in fields(QuantConf):
        if field.name not in SCHEME_PARAMETERS:
            continue
        value = getattr(quant, field.name)
        usual = field.default if field.default_factory is NO_DEFAULT else field.default_factory()
        if field.name not in quant.takes and value != usual:
            takes = ", ".join(quant.takes) or "none"
            shown = "{...}" if isinstance(value, dict) else value
            yield f"{path}{field.name}={shown}: {quant.name} has no such parameter; its own: {takes}"
        if field.name in quant.takes and value is None and field.name != "plan":
            yield f"{path}{field.name}=null: {quant.name} needs a value"


def _where_and_via(quant: QuantConf, path: str) -> Iterator[str]:
    if quant.emulate and (quant.where, quant.via) != ("device", "direct"):
        yield f"{path}emulate=true: only with {path}where=device and {path}via=direct"
    if quant.candidates and quant.via == "diffusers":
        yield f"{path}via=diffusers: takes one scheme for all layers, {quant.name} mixes them; give {path}via=direct"
    elif quant.candidates and quant.where != "device" and quant.plan is None:
        yield (
            f"{path}where={quant.where}: {quant.name} searches on the device; "
            f"give {path}plan=plan.json of an earlier run, or {path}where=device"
        )
