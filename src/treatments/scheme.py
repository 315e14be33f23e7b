"""Quantization schemes: conf/quant entries made into something that can be checked and applied."""

from collections import Counter
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
from src.treatments.layers import LayerRow, is_quantized, why_not
from src.workloads.device import Device
from src.workloads.workload import Workload

# torchao's own way to say that a device, a package or a shape is missing.
_REFUSALS = (AssertionError, ImportError, NotImplementedError, ValueError)


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

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize the workload's layers in place and say in each row what was done.

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

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Leave every layer as it is."""
        for row in rows:
            row.reason = row.reason or "quant=none"


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

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize every layer that the scheme takes."""
        chosen = self.select(rows, run.device)
        if not chosen:
            reasons = ", ".join(f"{n} x {why}" for why, n in Counter(r.reason for r in rows).most_common(3))
            raise unsupported(f"{self.conf.name} fits none of the {len(rows)} Linear layers ({reasons})")
        config = self.torchao_config(run.device)
        quantize_layers(workload.module, {row.fqn: (self.conf.name, config) for row in chosen}, rows)


def quantize_layers(module: nn.Module, configs: dict[str, tuple[str, Any]], rows: list[LayerRow]) -> None:
    """Apply a torchao config to each named layer, then look at what really became of it.

    Args:
        module: changed in place.
        configs: layer name -> (scheme name, torchao config).
        rows: given the scheme that was applied, or why none was.

    Raises:
        RunEndedError: `unsupported`, when torchao refuses, or silently leaves every layer alone.
    """
    try:
        quantize_(module, FqnToConfig({fqn: config for fqn, (_, config) in configs.items()}), filter_fn=None)
    except _REFUSALS as error:
        names = "/".join(sorted({name for name, _ in configs.values()}))
        raise unsupported(f"torchao refuses {names} here: {_first_line(error)}") from error
    for row in rows:
        if row.fqn not in configs:
            continue
        layer = module.get_submodule(row.fqn)
        assert isinstance(layer, nn.Linear)
        if is_quantized(layer):
            row.scheme, row.reason = configs[row.fqn][0], ""
        else:
            row.reason = "torchao left it alone"
    if not any(row.scheme for row in rows):
        raise unsupported(f"torchao left all {len(configs)} selected layers alone")


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
