"""Training recipes: Linear layers with quantized matmuls forward and backward, optimizers with a small state."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchao.quantization import quantize_

from src.config.schema.quant import QuantConf
from src.context import RunContext
from src.devices.device import Device
from src.outcomes import unsupported
from src.treatments.applied import note_quantized, refusals
from src.treatments.layers import LayerRow, is_quantized
from src.treatments.scheme import Scheme, TorchaoScheme, Unquantized
from src.workloads.workload import Workload

if TYPE_CHECKING:
    from torchao.float8 import Float8LinearConfig

_OPTIMIZER_ALONE = "the recipe is of the optimizer alone"


class TrainingRecipe(TorchaoScheme):
    """What `config` makes of Linear layers, and `optimizer` of the steps: one of them or both."""

    emulates_by = "or training.emulate=true, for its loss curve alone"

    def observes(self, device: Device) -> bool:
        """The layer table says enough."""
        return False

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """There is nothing to find out."""

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Convert every layer that the recipe takes, and say in each row what was done."""
        if not self.conf.config:
            for row in rows:
                row.reason = row.reason or _OPTIMIZER_ALONE
            return
        choices = self.choose(rows, run)
        with refusals(choices):
            convert(workload.module, self.torchao_config(run.device), set(choices))
        note_quantized(workload.module, choices, rows, became=_is_converted)
        self._tell_emulated(run)


def _is_converted(layer: nn.Linear) -> bool:
    return is_quantized(layer) or type(layer) is not nn.Linear


def convert(module: nn.Module, config: Any, names: set[str]) -> None:
    """Change the named Linear layers of a module, by torchao's way for this kind of config."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    def chosen(_: nn.Module, name: str) -> bool:
        return name in names

    if isinstance(config, Float8LinearConfig):
        convert_to_float8_training(module, module_filter_fn=chosen, config=config)
    else:
        from src.treatments.int8_training import let_compile

        quantize_(module, config, filter_fn=chosen)
        let_compile(module)


def same_compiler_for_both() -> None:
    """Let torchao.float8 change what inductor makes of minima and maxima now, before either arm is compiled.

    It does so in the whole process when a first layer is converted (torchao 0.18, for triton-lang/triton#11111).
    """
    from torchao.float8 import convert_to_float8_training

    convert_to_float8_training(nn.Sequential(nn.Linear(16, 16, device="meta", dtype=torch.bfloat16)))


def emulated_float8(recipe_name: str) -> "Float8LinearConfig":
    """A recipe of torchao.float8 with operands that are rounded and multiplied in the model's dtype."""
    from torchao.float8 import Float8LinearConfig

    return replace(Float8LinearConfig.from_recipe_name(recipe_name), emulate=True)


def trained_with(scheme: Scheme, conf: QuantConf, *, adapters: bool) -> None:
    """Refuse a scheme that no model can be trained with.

    Args:
        adapters: they are what is trained, beside weights that stay as they are.

    Raises:
        RunEndedError: `unsupported`, it is for inference.
    """
    if isinstance(scheme, (TrainingRecipe, Unquantized)) or (adapters and not conf.no_gradient):
        return
    why = conf.no_gradient or "it is for inference: no optimizer can step weights that are stored so"
    remedy = "a training recipe: quant=training/float8_rowwise"
    if not conf.no_gradient:
        remedy += "; or adapters beside its weights: training.lora.rank=16"
    raise unsupported(f"quant={conf.name} does not train: {why}", remedy)
