"""Quantization schemes: conf/quant entries made into something that can be checked and applied."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol
from unittest.mock import patch

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import nn
from torchao.quantization import quantize_

from src.config.errors import ConfigError
from src.config.schema.quant import QuantConf, RequiresConf
from src.context import RunContext
from src.devices.capability import EMULATE, Capability, Status, capability
from src.devices.device import Device
from src.outcomes import unsupported
from src.treatments.applied import REFUSALS, Choices, another_scheme, first_line, quantize_layers
from src.treatments.layers import LayerRow, fits_none, what_fits, why_not
from src.treatments.observing import Inputs, observe_inputs
from src.treatments.trying import refused_layers
from src.workloads.workload import Workload


class Scheme(Protocol):
    """What `_target_` of a conf/quant entry names."""

    def __init__(self, conf: QuantConf) -> None: ...

    def check(self, device: Device, dtype: str) -> None:
        """Raise `unsupported` when this device cannot run the scheme."""
        ...

    def observes(self, device: Device) -> bool:
        """Whether `search` calls the workload, which then needs its weights."""
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
    """The scheme that a conf/quant entry describes; inside what chooses its layers, if `quant.layers` names one."""
    scheme: Scheme = get_class(conf._target_)(conf)
    if chooser := conf.layers.sensitive._target_:
        scheme = get_class(chooser)(conf, scheme)
    return scheme


class Unquantized:
    """The baseline measured against itself."""

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf

    def check(self, device: Device, dtype: str) -> None:
        """Every device can."""

    def observes(self, device: Device) -> bool:
        """There is nothing to see."""
        return False

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

    emulates_by: ClassVar[str] = EMULATE  # the remedy that asks for it

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf
        self.found: Capability | None = None  # by `check`
        self.inputs: dict[
            str, Inputs
        ] = {}  # by `search`, where it matters: layer name -> what it is called with

    def requires(self, device: Device) -> RequiresConf:
        """The requirements on this kind of device."""
        return self.conf.on(device.kind).requires

    def torchao_config(self, device: Device, **arguments: Any) -> Any:
        """Instantiate the torchao config for this kind of device; of an emulated scheme the one that emulates it.

        Raises:
            RunEndedError: `unsupported`, when torchao refuses the values of the arguments.
            ConfigError: a class or an argument that torchao does not have: a mistake, no finding about the device.
        """
        config = self.conf.emulation.config if self._emulated() else self.conf.on(device.kind).config
        try:
            return instantiate(config, _convert_="all", _partial_=True)(**arguments)
        except (InstantiationException, TypeError, *REFUSALS) as error:
            cause = (error.__cause__ or error) if isinstance(error, InstantiationException) else error
            absent = "Error locating target" in str(error) or "Error loading" in str(
                cause
            )  # in Hydra's words
            if isinstance(cause, REFUSALS) and not absent:
                raise unsupported(
                    f"torchao refuses quant={self.conf.name}: {first_line(cause)}", another_scheme()
                ) from error
            raise ConfigError(f"quant.config of {self.conf.name}: {first_line(cause)}") from error

    def check(self, device: Device, dtype: str) -> None:
        """Compare what the scheme needs with what the device has."""
        self.found = capability(self.conf, device, dtype)
        if self.found.status is Status.OK or self._emulated():
            return
        remedy = self.found.remedy
        if self.found.status is Status.EMULATED:
            remedy = "; ".join(filter(None, [remedy, self.emulates_by]))
        raise unsupported(self.found.reason, remedy)

    def select(self, rows: list[LayerRow], device: Device) -> list[LayerRow]:
        """The layers that the scheme takes; the others are given their reason."""
        requires = self.requires(device)
        for row in rows:
            row.reason = row.reason or why_not(row, self.conf.layers, requires)
            dims = self.inputs[row.fqn].dims if row.fqn in self.inputs else set()
            if not row.reason and requires.input_dims and dims - {requires.input_dims}:
                row.reason = f"called with inputs of {max(dims)} dimensions, not {requires.input_dims}"
        return [row for row in rows if not row.reason]

    def observes(self, device: Device) -> bool:
        """If the kernel takes inputs of one shape only."""
        return self.requires(device).input_dims is not None

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Look at the layers' inputs, if the kernel takes them of one shape only; then try a layer of each shape."""
        if self.observes(run.device):
            self.inputs = observe_inputs(workload, [row.fqn for row in rows])
        self.try_layers(workload, rows, run)

    def try_layers(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Give the layers their reason whose shape the kernels refuse."""
        chosen = self.select(rows, run.device)
        if not self.conf.tries_layers or not chosen:
            return
        configs = self.configs(chosen, run.device)

        def quantize(fqn: str, layer: nn.Module) -> nn.Module:
            holder = nn.ModuleDict({"layer": layer.to("cpu") if self.conf.where == "cpu" else layer})
            with self._lifted():
                quantize_(holder, configs[fqn], filter_fn=lambda module, _: module is not holder)
            return holder["layer"]

        dims = {fqn: seen.dims for fqn, seen in self.inputs.items()}
        with run.phase("try layers"):
            refused = refused_layers(workload, chosen, run.device, quantize, dims)
        for row in rows:
            row.reason = row.reason or refused.get(row.fqn, "")

    def configs(self, rows: list[LayerRow], device: Device) -> dict[str, Any]:
        """Layer name -> torchao config; the same one for all."""
        config = self.torchao_config(device)
        return {row.fqn: config for row in rows}

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """Every layer that the scheme takes."""
        chosen = self.select(rows, run.device)
        if not chosen:
            raise unsupported(
                fits_none(self.conf, rows), what_fits(rows, self.conf, self.requires(run.device))
            )
        return {fqn: (self.conf.name, config) for fqn, config in self.configs(chosen, run.device).items()}

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize every layer that the scheme takes."""
        choices = self.choose(rows, run)
        with self._lifted():
            quantize_layers(workload.module, choices, rows)
        self._tell_emulated(run)

    def _lifted(self) -> AbstractContextManager[object]:
        """Inside, torchao's own check of the hardware passes, where the scheme is emulated."""
        check = self.conf.emulation.lifts if self._emulated() else ""
        return patch(check, lambda *_, **__: None) if check else nullcontext()

    def _tell_emulated(self, run: RunContext) -> None:
        if self._emulated() and self.found is not None:
            how, reason, remedy = self.conf.emulation.how, self.found.reason, self.found.remedy
            run.record.details["emulated"] = {"how": how, "reason": reason, "remedy": remedy}

    def _emulated(self) -> bool:
        return self.conf.emulate and self.found is not None and self.found.status is Status.EMULATED
