"""torchao's configs applied to layers: its refusals as an outcome, and what really became of each layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torchao.quantization import FqnToConfig, quantize_

from src.config.paths import command
from src.outcomes import unsupported
from src.treatments.layers import LayerRow, is_quantized

# torchao's own way to say that a device, a package or a shape is missing.
REFUSALS = (AssertionError, ImportError, NotImplementedError, ValueError)
Choices = dict[str, tuple[str, Any]]  # a layer's name in the target -> scheme name, torchao config


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
    except REFUSALS as error:
        names = "/".join(sorted({name for name, _ in configs.values()}))
        raise unsupported(f"{by} refuses {names} here: {first_line(error)}", another_scheme()) from error


def note_quantized(
    module: nn.Module,
    configs: Choices,
    rows: list[LayerRow],
    by: str = "torchao",
    became: Callable[[nn.Linear], bool] = is_quantized,
) -> None:
    """Say in each row what was applied, by what became of the layer.

    Raises:
        RunEndedError: `unsupported`, when nothing became of any.
    """
    for row in rows:
        if row.fqn not in configs:
            continue
        layer = module.get_submodule(row.fqn)
        assert isinstance(layer, nn.Linear)
        if became(layer):
            row.scheme, row.reason = configs[row.fqn][0], ""
        else:
            row.reason = f"{by} left it alone"
    if configs and not any(row.scheme for row in rows):
        raise unsupported(f"{by} left all {len(configs)} selected layers alone", another_scheme())


def first_line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def another_scheme() -> str:
    """What to do about a refusal."""
    return f"another scheme, or other arguments in quant.config: {command('run', '--list')}"
