"""What `--list` prints: every scheme, and whether the device runs it, here or predicted. No model is built."""

import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from src.app.composing.loader import Loader, loader_of_conf
from src.app.listing_text import Listed, listing
from src.checks.validation import check, validated
from src.config.aliases import aliases, without_aliases
from src.config.errors import ConfigError
from src.config.paths import command
from src.config.schema.quant import QuantConf, RequiresConf
from src.config.schema.root import AUTO, GpuConf, RootConf

if TYPE_CHECKING:
    from src.devices.capability import Capability
    from src.devices.device import Device
    from src.planning.cards import Card

_HERE, _ELSEWHERE = "Runs here", "Needs another device"
_NEVER = "Cannot run on any device"
_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_WIDTH = 80  # columns, where nobody's terminal says
_NESTED = "quant.candidates"  # where all schemes fit into one composition

Compose = Callable[[Sequence[str]], DictConfig]


def list_schemes(compose: Compose, loader: Loader, overrides: Sequence[str]) -> None:
    """Print every scheme: those that run here, what the others need, those that no device runs.

    Args:
        compose: what is configured by some overrides.

    Raises:
        ConfigError: this command has no schemes, or the device is not here and nothing is known of it.
    """
    config = compose(overrides)
    check(config)
    if "quant" not in config:
        raise ConfigError(f"--list: only {command('run')} has schemes")
    card = _card(OmegaConf.to_object(config.gpu))
    device = card.device
    assert device is not None
    from src.devices.capability import capability

    schemes = _schemes(compose, loader, overrides)
    dtypes = _dtypes(config, device, schemes, here=card.here)
    rows = {name: capability(conf, device, dtypes[name]) for name, conf in schemes.items()}
    told = "" if card.here else f"; predicted from {card.source}: this machine does not have it"
    asked = f"{dtypes['none']} (dtype=auto)" if config.dtype == AUTO else config.dtype
    listed = [_listed(schemes[name], found, device) for name, found in rows.items()]
    if any(found.status == "emulated" for found in rows.values()):
        told += "; *: here with quant.emulate=true, for its quality alone"
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    print(listing(f"{device.name}, {asked}{told}", listed, [_HERE, _ELSEWHERE, _NEVER], width))
    print(f"\n{_recipes(config, device, width)}Other names of schemes: {command('run', '--help', 'quant')}")


def _recipes(config: DictConfig, device: "Device", width: int) -> str:
    """What of a recipe this device cannot have, whatever the model; empty where it can have all."""
    from src.treatments.recipe_check import missing_on

    missing = ", ".join(missing_on(validated(config, RootConf), device.kind))
    return textwrap.fill(f"Not for recipes here: {missing}", width) + "\n" if missing else ""


def _dtypes(
    config: DictConfig, device: "Device", schemes: dict[str, QuantConf], *, here: bool
) -> dict[str, str]:
    """The dtype that each scheme would run in; of a device that is not here only its compute capability is known."""
    if config.dtype != AUTO:
        return dict.fromkeys(schemes, config.dtype)
    from src.measurement.dtypes import dtype_rates
    from src.workloads.dtype import DtypeRates, auto_dtype, scheme_dtypes

    def rates() -> DtypeRates:
        here_rates = dtype_rates(device, Path(config.outputs), ceilings=False) if here else None
        return here_rates or DtypeRates({"float32": 1.0})

    return {
        name: auto_dtype(device.compute_capability, scheme_dtypes(conf, device.kind), rates)
        for name, conf in schemes.items()
    }


def scheme_aliases() -> dict[str, str]:
    """Other names of schemes -> the scheme of conf/quant."""
    return aliases("quant", loader_of_conf())


def scheme_names() -> list[str]:
    """Every scheme of conf/quant, without aliases."""
    loader = loader_of_conf()
    return without_aliases("quant", loader.get_group_options("quant"), loader)


def _schemes(compose: Compose, loader: Loader, overrides: Sequence[str]) -> dict[str, QuantConf]:
    """Every scheme with the command line's other values, composed at once: one by one takes 0.1 s each."""
    from src.devices.capability import quant_conf

    names = without_aliases("quant", loader.get_group_options("quant"), loader)
    given = [override for override in overrides if not override.startswith(("quant=", "quant."))]
    nested = [f"+quant@{_NESTED}.{name}={name}" for name in names]
    config = compose([*given, "quant=none", *nested])
    entries = OmegaConf.to_container(config.quant.candidates, resolve=True)
    assert isinstance(entries, dict)
    return {name: quant_conf(entries[name]) for name in names}


def _card(gpu: object) -> "Card":
    from src.planning.cards import card_of

    assert isinstance(gpu, GpuConf)
    card = card_of(gpu)
    if card.device is None:
        raise ConfigError("; ".join(filter(None, [card.source, card.remedy])))
    return card


def _listed(conf: QuantConf, found: "Capability", device: "Device") -> Listed:
    """A scheme's row: the first clause of why not, and of what to take instead; its file in conf/quant has all."""
    on_device, never = conf.on(device.kind), conf.on(device.kind).requires.never
    reason = found.reason.removeprefix(f"{conf.name} ").partition("; this is ")[0]
    if never:
        reason = re.split("[;:,] ", reason.removeprefix("cannot run: "), maxsplit=1)[0]
    layers = "; ".join(filter(None, [_takes(conf, on_device.requires), _dtypes_of(on_device.requires)]))
    return Listed(
        f"{conf.name}{'*' if found.status == 'emulated' else ''}",
        f"{on_device.bits:g}" if on_device.bits else "",
        on_device.serializes or "",
        _compile(conf, device.kind),
        layers,
        _NEVER if never else _HERE if found.status == "ok" else _ELSEWHERE,
        reason.removeprefix("cannot run: "),
        found.remedy.partition("; ")[0] if found.reason else "",
        conf.eager_only.get(device.kind, ""),
    )


def _compile(conf: QuantConf, kind: str) -> str:
    """Whether compiling is needed to make sense, or fails."""
    if kind in conf.eager_only:
        return "fails"
    return "needed" if conf.needs_compile else ""


def _dtypes_of(requires: RequiresConf) -> str:
    """The dtypes that a scheme takes, where not any."""
    return "/".join(_SHORT[name] for name in requires.dtypes)


def _takes(conf: QuantConf, requires: RequiresConf) -> str:
    """Which layers, by K, N and M: ``K%128, N%16, group 32/64/128``."""
    rules = {"K": requires.k_multiple, "N": requires.n_multiple, "K·N": requires.kn_multiple}
    told = [f"{side}%{multiple}" for side, multiple in rules.items() if multiple > 1]
    sizes = "/".join(map(str, requires.group_sizes)) or conf.group_size
    told += [f"M >= {requires.least_m}"] * (requires.least_m > 1)
    told += [f"group {sizes}"] * (conf.group_size is not None)
    told += [f"{requires.input_dims}-D inputs"] * (requires.input_dims is not None)
    return ", ".join(told)
