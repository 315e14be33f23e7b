"""Layers tried once by themselves: a kernel that refuses a shape leaves that layer alone, and the run goes on."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import nn

from src.config.lines import first_line
from src.devices.device import Device
from src.treatments.layers import LayerRow
from src.workloads.workload import Workload

Quantize = Callable[[str, nn.Module], nn.Module]  # the layer of this name, made anew

# What a kernel or a library says of a shape, a dtype or a layout that it does not take, in torch's and theirs words.
_REFUSAL = re.compile(
    r"CUBLAS_STATUS_(?:NOT_SUPPORTED|INVALID_VALUE)|not (?:supported|implemented|divisible)|[Uu]nsupported|"
    r"does(?:n't| not) support|Could not run|Invalid scaling|only supports?|multiple of|di(?:vis|vid)able|divisible|"
    r"(?:must|should|needs?|expected?)\b.* (?:be|have|match)\b|greater than|[Ee]xpect"
)
_NO_REFUSAL = re.compile(r"out of memory|illegal|device-side assert|(?:device|GPU) is lost", re.IGNORECASE)


@torch.no_grad()
def refused_layers(
    workload: Workload,
    rows: list[LayerRow],
    device: Device,
    quantize: Quantize,
    dims: Mapping[str, set[int]] | None = None,
) -> dict[str, str]:
    """Quantize and call, eagerly, one layer with random weights of each distinct shape: once for each number of rows.

    Args:
        workload: whose layers the rows name; its weights are not looked at.
        quantize: what makes a layer a quantized one; may return it on another device.
        dims: layer name -> how many dimensions the inputs have, where that is known; else 2.

    Returns:
        Layer name -> why its kernel does not take it. Any other error is left to the run itself.
    """
    found: dict[tuple[object, ...], str] = {}
    refused: dict[str, str] = {}
    for row in rows:
        layer = workload.module.get_submodule(row.fqn)
        assert isinstance(layer, nn.Linear)
        ndim = max((dims or {}).get(row.fqn) or {2})
        kind = (row.shape, row.least_m, layer.bias is None, layer.weight.dtype, ndim)
        if kind not in found:
            found[kind] = _why_refused(row, layer, device, quantize, ndim)
        if found[kind]:
            refused[row.fqn] = found[kind]
    return refused


def _why_refused(row: LayerRow, layer: nn.Linear, device: Device, quantize: Quantize, ndim: int) -> str:
    dtype, place = layer.weight.dtype, device.torch
    random = torch.Generator(place).manual_seed(0)  # the run's own random numbers stay as they are
    trial = nn.Linear(row.K, row.N, bias=layer.bias is not None, dtype=dtype, device="meta").to_empty(
        device=place
    )
    trial.requires_grad_(False)
    for parameter in trial.parameters():
        parameter.normal_(std=row.K**-0.5, generator=random)
    x = torch.randn(row.M, row.K, dtype=dtype, device=place, generator=random)
    quantized: nn.Module = trial
    m = row.least_m
    try:
        quantized = quantize(row.fqn, trial).to(place)
        for m in row.rows:
            quantized(x[:m].reshape([1] * (ndim - 2) + [m, row.K]))
            device.synchronize()
    except (RuntimeError, ValueError) as error:
        if is_refusal(error):
            return f"its kernel refuses M={m}, K={row.K}, N={row.N}: {first_line(error)}"
    except Exception:  # whatever it is, the run meets it again, and says what it means
        return ""
    finally:
        for layer_of_trial in (trial, quantized):  # torchao's printing of a layer holds the layer itself
            layer_of_trial._parameters.clear()
    return ""


def is_refusal(error: Exception) -> bool:
    """Whether a kernel says that it does not take what it was given; not that memory or the device is gone."""
    return bool(_REFUSAL.search(str(error))) and not _NO_REFUSAL.search(str(error))
