"""What `--list` prints: every scheme, and whether the device runs it, here or foretold. No model is built."""

import sys
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.utils import create_config_search_path
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.app.loader import Loader
from src.checks.validation import check
from src.config.aliases import aliases, without_aliases
from src.config.errors import ConfigError
from src.config.paths import ROOT, command, config_source
from src.config.quant_schema import QuantConf, RequiresConf
from src.config.schema import AUTO, GpuConf

if TYPE_CHECKING:
    from src.devices.capability import Capability
    from src.devices.device import Device
    from src.planning.cards import Card

_HEADS = (
    "quant",
    "bits",
    "needs",
    "layers",
    "saves as",
    "compile",
    "status",
    "why not, and what instead",
    "aliases",
)
_STYLES = {"ok": "green", "emulated": "yellow", "unsupported": "dim"}
_UNFOLDED = 1000  # columns, where nobody reads it on a terminal
_NESTED = "quant.candidates"  # where all schemes fit into one composition

Compose = Callable[[Sequence[str]], DictConfig]


def list_schemes(compose: Compose, loader: Loader, overrides: Sequence[str]) -> None:
    """Print a row per scheme.

    Args:
        compose: what is configured by some overrides.
        loader: knows the schemes.
        overrides: of the command line.

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
    other_names = aliases("quant", loader)
    called = {name: sorted(a for a, option in other_names.items() if option == name) for name in rows}
    told = "" if card.here else f"; foretold from {card.source}: this machine does not have it"
    asked = f"{dtypes['none']} (dtype=auto)" if config.dtype == AUTO else config.dtype
    _show(_table(schemes, rows, called, device, f"{asked}{told}"))


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
    return aliases("quant", _loader())


def scheme_names() -> list[str]:
    """Every scheme of conf/quant, without aliases."""
    loader = _loader()
    return without_aliases("quant", loader.get_group_options("quant"), loader)


def _loader() -> Loader:
    return Loader(create_config_search_path(config_source(ROOT / "conf")))


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


def _table(
    schemes: dict[str, QuantConf],
    rows: "dict[str, Capability]",
    called: dict[str, list[str]],
    device: "Device",
    asked: str,
) -> Table:
    table = Table(
        title=escape(f"{device.name}, {asked}"), title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for head in _HEADS:
        table.add_column(head, overflow="fold", min_width=len(head) if head == "status" else None)
    for name, found in rows.items():
        on_device = schemes[name].on(device.kind)
        status = str(found.status)
        table.add_row(
            name,
            f"{on_device.bits:g}" if on_device.bits else "",
            _needs(on_device.requires),
            _takes(schemes[name], on_device.requires),
            on_device.serializes or "",
            _compile(schemes[name], device.kind),
            f"[{_STYLES[status]}]{status}[/]",
            escape("; ".join(filter(None, [_why(found), schemes[name].eager_only.get(device.kind)]))),
            " ".join(called[name]),
        )
    return table


def _compile(conf: QuantConf, kind: str) -> str:
    """Whether compiling is needed to make sense, or fails."""
    if kind in conf.eager_only:
        return "fails"
    return "needed" if conf.needs_compile else ""


def _needs(requires: RequiresConf) -> str:
    """Devices, compute capability, packages and dtypes: ``cuda >= 8.9, mslk, bfloat16``."""
    low, high = requires.compute_capability, requires.below_capability
    bounds = [f">= {low}"] * (low is not None) + [f"< {high}"] * (high is not None)
    device = " ".join(["/".join(requires.devices) or ("cuda" if bounds else ""), *bounds])
    return ", ".join(filter(None, [device, *requires.packages, "/".join(requires.dtypes)]))


def _takes(conf: QuantConf, requires: RequiresConf) -> str:
    """Which layers, by K, N and M: ``K % 128, N % 16, group 128 of 32 64 128``."""
    rules = {"K": requires.k_multiple, "N": requires.n_multiple, "K·N": requires.kn_multiple}
    told = [f"{side} % {multiple}" for side, multiple in rules.items() if multiple > 1]
    sizes = " ".join(map(str, requires.group_sizes))
    told += [f"M >= {requires.least_m}"] * (requires.least_m > 1)
    told += [f"group {conf.group_size}" + (f" of {sizes}" if sizes else "")] * (conf.group_size is not None)
    told += [f"{requires.input_dims}-D inputs"] * (requires.input_dims is not None)
    return ", ".join(told)


def _why(found: "Capability") -> str:
    emulated = "quant.emulate=true for its quality alone" if found.status == "emulated" else ""
    remedies = "; or ".join(filter(None, [emulated, found.remedy]))
    return f"{found.reason} → {remedies}" if remedies and found.reason else found.reason


def _show(table: Table) -> None:
    if sys.stdout.isatty():
        Console().print(table)
        return
    text = StringIO()
    Console(file=text, width=_UNFOLDED, color_system=None).print(table)
    print("\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines()))
