"""What a device can do with a scheme, told from the scheme's data alone: torchao is not imported."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from src.config.schema.quant import EmulationConf, QuantConf, RequiresConf

if TYPE_CHECKING:
    from src.devices.device import Device


EMULATE = "or quant.emulate=true, for its quality alone"  # a remedy, where the status is EMULATED


class Status(StrEnum):
    """Whether a scheme runs on a device."""

    OK = "ok"
    EMULATED = "emulated"  # only with quant.emulate=true, and then for its quality alone
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Capability:
    """A scheme on a device: its status, why it is not ok, and what would run it."""

    status: Status
    reason: str = ""
    remedy: str = ""


def quant_conf(entry: Any) -> QuantConf:
    """A conf/quant entry that stands as plain keys and values, as autoquant's candidates do."""
    conf = OmegaConf.to_object(OmegaConf.merge(_schema(), entry))
    assert isinstance(conf, QuantConf)
    return conf


@cache
def _schema() -> DictConfig:
    """Made once, as it takes longer than merging; merging copies it."""
    schema: DictConfig = OmegaConf.structured(QuantConf)
    return schema


def capability(conf: QuantConf, device: "Device", dtype: str) -> Capability:
    """Compare what a scheme needs with what a device has.

    Args:
        dtype: of the unquantized model.
    """
    if conf.candidates:
        return _of_candidates(conf, device, dtype)
    requires = conf.on(device.kind).requires
    if requires.never:
        return Capability(Status.UNSUPPORTED, f"{conf.name} cannot run: {requires.never}", requires.remedy)
    if requires.group_sizes and conf.group_size not in requires.group_sizes:
        sizes = ", ".join(map(str, requires.group_sizes))
        reason = f"{conf.name} on {device.kind} takes group sizes {sizes}; this is quant.group_size={conf.group_size}"
        return Capability(
            Status.UNSUPPORTED, reason, f"one of them: quant.group_size={requires.group_sizes[0]}"
        )
    hardware, others = missing_hardware(requires, device), _missing_dtype(requires, dtype)
    if not hardware and not others:
        return Capability(Status.OK)
    capability_text = f" (compute capability {device.compute_capability})" if device.kind == "cuda" else ""
    lacks = ", ".join([*hardware, *others])
    reason = f"{conf.name} needs {lacks}; this is {device.name}{capability_text}, {dtype}"
    if others or not _emulates(conf.emulation, device):
        return Capability(Status.UNSUPPORTED, reason, requires.remedy)
    return Capability(Status.EMULATED, reason, requires.remedy)


def missing_hardware(requires: RequiresConf, device: "Device") -> list[str]:
    """What the device and what is installed lack, in words."""
    lacks = []
    if requires.devices and device.kind not in requires.devices:
        lacks.append(f"a {' or '.join(requires.devices)} device")
    has, least, below = (
        device.compute_capability or 0.0,
        requires.compute_capability,
        requires.below_capability,
    )
    if least is not None and has < least:
        lacks.append(f"compute capability >= {least}")
    if below is not None and has >= below:
        lacks.append(f"compute capability < {below}")
    return lacks + [f"the package {name}" for name in requires.packages if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a dotted name: what is around it
        return False


def _missing_dtype(requires: RequiresConf, dtype: str) -> list[str]:
    if not requires.dtypes or dtype in requires.dtypes:
        return []
    return [f"dtype {' or '.join(requires.dtypes)}"]


def _emulates(emulation: EmulationConf, device: "Device") -> bool:
    return bool(emulation.config) and (not emulation.devices or device.kind in emulation.devices)


def _of_candidates(conf: QuantConf, device: "Device", dtype: str) -> Capability:
    """One that runs is enough: the others are trials with their reasons."""
    found = [capability(quant_conf(entry), device, dtype) for entry in conf.candidates.values()]
    if any(each.status is Status.OK for each in found):
        return Capability(Status.OK)
    reason = f"{conf.name}: no candidate of {', '.join(conf.candidates)} runs on {device.name}"
    return Capability(Status.UNSUPPORTED, reason, "; ".join(dict.fromkeys(each.remedy for each in found)))
