"""Quantization schemes: conf/quant entries made into something that can be checked and applied."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import nn
from torchao.quantization import FqnToConfig, quantize_

from src.config.errors import ConfigError
from src.config.schema import QuantConf, RequiresConf
from src.outcomes import unsupported
from src.tasks.context import RunContext
from src.treatments.layers import LayerRow, is_quantized, tally, why_not
from src.workloads.device import Device
from src.workloads.workload import Workload

# torchao's own way to say that a device, a package or a shape is missing.
_REFUSALS = (AssertionError, ImportError, NotImplementedError, ValueError)

Choices = dict[str, tuple[str, Any]]  # a layer's name in the target -> scheme name, torchao config


class Scheme(Protocol):
    """What `_target_` of a conf/quant entry names."""

    falls_back: bool  # whether nothing is applied when the whole does not win over the baseline

    def __init__(self, conf: QuantConf) -> None: ...

    def check(self, device: Device, dtype: str) -> None:
        """Raise `unsupported` when this device cannot run the scheme."""
        ...

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Find out what is to be applied, when that takes measuring; the workload is left as it is."""
        ...

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """What each layer is quantized with; the rows of all others are given their reason.

        Raises:
            RunEndedError: `unsupported`, when no layer can be quantized.
        """
        ...

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize the chosen layers of a workload in place and say in each row what was done.

        Raises:
            RunEndedError: `unsupported`, when no layer can be quantized.
        """
        ...


def make_scheme(conf: QuantConf) -> Scheme:
    """The scheme that a conf/quant entry describes."""
    scheme: Scheme = get_class(conf._target_)(conf)
    return scheme


class Unquantized:
    """The baseline measured against itself."""

    falls_back = False

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf

    def check(self, device: Device, dtype: str) -> None:
        """Every device can."""

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """There is nothing to find out."""

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """Leave every layer as it is."""
        for row in rows:
            row.reason = row.reason or "quant=none"
        return {}

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Leave every layer as it is."""
        self.choose(rows, run)


class TorchaoScheme:
    """A torchao config applied to the layers that it accepts."""

    falls_back = False

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf

    def requires(self, device: Device) -> RequiresConf:
        """The requirements on this kind of device."""
        variant = self.conf.per_device.get(device.kind)
        return variant.requires if variant else self.conf.requires

    def torchao_config(self, device: Device) -> Any:
        """Instantiate the torchao config for this kind of device.

        Raises:
            RunEndedError: `unsupported`, when torchao refuses the values of the arguments.
            ConfigError: a class or an argument that torchao does not have: a mistake, no finding about the device.
        """
        variant = self.conf.per_device.get(device.kind)
        config = variant.config if variant and variant.config else self.conf.config
        try:
            return instantiate(config, _convert_="all")
        except InstantiationException as error:
            cause = error.__cause__ or error
            if isinstance(cause, _REFUSALS) and "Error locating target" not in str(error):
                raise unsupported(f"torchao refuses quant={self.conf.name}: {_first_line(cause)}") from error
            raise ConfigError(f"quant.config of {self.conf.name}: {_first_line(cause)}") from error

    def check(self, device: Device, dtype: str) -> None:
        """Compare what the scheme needs with what the device has."""
        lacks = missing(self.requires(device), device, dtype)
        if lacks:
            raise unsupported(f"{self.conf.name} needs {lacks}", self.requires(device).remedy)

    def select(self, rows: list[LayerRow], device: Device) -> list[LayerRow]:
        """The layers that the scheme takes; the others are given their reason."""
        for row in rows:
            row.reason = row.reason or why_not(row, self.conf.layers, self.requires(device))
        return [row for row in rows if not row.reason]

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """There is nothing to find out."""

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """Every layer that the scheme takes."""
        chosen = self.select(rows, run.device)
        if not chosen:
            raise unsupported(f"{self.conf.name} fits none of the {len(rows)} Linear layers ({tally(rows)})")
        config = self.torchao_config(run.device)
        return {row.fqn: (self.conf.name, config) for row in chosen}

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize every layer that the scheme takes."""
        quantize_layers(workload.module, self.choose(rows, run), rows)


def quantize_layers(module: nn.Module, configs: Choices, rows: list[LayerRow]) -> None:
    """Apply a torchao config to each named layer, then look at what really became of it.

    Args:
        module: changed in place.
        rows: given the scheme that was applied, or why none was.

    Raises:
        RunEndedError: `unsupported`, when torchao refuses, or silently leaves every layer alone.
    """
    with refusals(configs):
        quantize_(module, FqnToConfig({fqn: config for fqn, (_, config) in configs.items()}), filter_fn=None)
    note_quantized(module, configs, rows)


@contextmanager
def refusals(configs: Choices, by: str = "torchao") -> Iterator[None]:
    """Turn torchao's refusals of a config or a layer into the outcome `unsupported`."""
    try:
        yield
    except _REFUSALS as error:
        names = "/".join(sorted({name for name, _ in configs.values()}))
        raise unsupported(f"{by} refuses {names} here: {_first_line(error)}") from error


def note_quantized(module: nn.Module, configs: Choices, rows: list[LayerRow], by: str = "torchao") -> None:
    """Say in each row what was applied, by what became of the layer.

    Raises:
        RunEndedError: `unsupported`, when nothing became of any.
    """
    for row in rows:
        if row.fqn not in configs:
            continue
        layer = module.get_submodule(row.fqn)
        assert isinstance(layer, nn.Linear)
        if is_quantized(layer):
            row.scheme, row.reason = configs[row.fqn][0], ""
        else:
            row.reason = f"{by} left it alone"
    if configs and not any(row.scheme for row in rows):
        raise unsupported(f"{by} left all {len(configs)} selected layers alone")


def missing(requires: RequiresConf, device: Device, dtype: str) -> str:
    """What the device lacks, in words; empty when nothing."""
    lacks = []
    if requires.devices and device.kind not in requires.devices:
        lacks.append(f"a {' or '.join(requires.devices)} device")
    needed, has = requires.compute_capability, device.compute_capability or 0.0
    if needed is not None and has < needed:
        lacks.append(f"compute capability >= {needed}")
    lacks += [f"the package {name}" for name in requires.packages if find_spec(name) is None]
    if requires.dtypes and dtype not in requires.dtypes:
        lacks.append(f"dtype {' or '.join(requires.dtypes)}")
    if not lacks:
        return ""
    capability = f" (compute capability {has})" if device.kind == "cuda" else ""
    return f"{', '.join(lacks)}; this is {device.name}{capability}, {dtype}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
