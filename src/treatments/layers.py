"""The layer table: every Linear of a workload, the shapes it sees, and what was applied to it."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from src.config.schema import LayersConf, RequiresConf
from src.workloads.workload import Workload


@dataclass
class LayerRow:
    """One Linear: y[M, N] = x[M, K] W[N, K]^T, `calls` times per forward of the target."""

    fqn: str
    M: int  # rows of the largest call
    K: int
    N: int
    calls: int
    scheme: str = ""  # what was applied
    reason: str = ""  # why nothing was

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, K, N)."""
        return (self.M, self.K, self.N)

    def as_dict(self) -> dict[str, Any]:
        """For layers.json."""
        return asdict(self)


@torch.no_grad()
def capture_layers(workload: Workload) -> tuple[list[LayerRow], dict[tuple[int, int, int], torch.Tensor]]:
    """Run one forward and list every Linear that was called.

    A row that comes with a reason is not for a scheme to take: a pipeline's VAE stays as it is.

    Returns:
        The rows in module order, and one real input per distinct shape, [M, K].
    """
    rows: dict[str, LayerRow] = {}
    samples: dict[tuple[int, int, int], torch.Tensor] = {}
    treated = set(workload.denoiser().modules())

    def hook(fqn: str, layer: nn.Linear, x: torch.Tensor) -> None:
        m, k, n = x.numel() // layer.in_features, layer.in_features, layer.out_features
        reason = "" if layer in treated else "only the denoiser is quantized"
        row = rows.setdefault(fqn, LayerRow(fqn, m, k, n, calls=0, reason=reason))
        row.calls += 1
        row.M = max(row.M, m)
        samples.setdefault((m, k, n), x.detach().reshape(m, k).clone())

    handles = [
        module.register_forward_pre_hook(
            lambda layer, args, kwargs, fqn=fqn: hook(fqn, layer, args[0] if args else kwargs["input"]),
            with_kwargs=True,
        )
        for fqn, module in workload.module.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        workload.call()
    finally:
        for handle in handles:
            handle.remove()
    return list(rows.values()), samples


def why_not(row: LayerRow, layers: LayersConf, requires: RequiresConf) -> str:
    """Why a scheme leaves this layer alone; empty when it takes it."""
    if not any(re.search(pattern, row.fqn) for pattern in layers.include):
        return "not in quant.layers.include"
    excluded = [pattern for pattern in layers.exclude if re.search(pattern, row.fqn)]
    if excluded:
        return f"quant.layers.exclude: {excluded[0]}"
    if min(row.K, row.N) < layers.min_side:
        return f"a side below quant.layers.min_side={layers.min_side}"
    if row.K % requires.k_multiple:
        return f"K={row.K} is not a multiple of {requires.k_multiple}"
    if row.N % requires.n_multiple:
        return f"N={row.N} is not a multiple of {requires.n_multiple}"
    if row.K * row.N % requires.kn_multiple:
        return f"K x N={row.K}x{row.N} is not a multiple of {requires.kn_multiple}"
    return ""


def is_quantized(layer: nn.Linear) -> bool:
    """Whether the weight is stored by a tensor subclass: torchao skips layers without a word."""
    return type(layer.weight) not in (nn.Parameter, torch.Tensor)


def linear_shape(rows: Iterable[LayerRow]) -> dict[str, int]:
    """M, K, N when the workload is exactly one Linear called once, else nothing."""
    listed = list(rows)
    if len(listed) != 1 or listed[0].calls != 1:
        return {}
    return {"M": listed[0].M, "K": listed[0].K, "N": listed[0].N}
