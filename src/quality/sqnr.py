"""How far the treated output is from the baseline's, at one forward on identical inputs."""

import math
from typing import Any

import torch

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.workloads.weights.parameters import floats


def compare(baseline: Any, treated: Any) -> dict[str, float]:
    """SQNR in dB, cosine similarity and largest absolute error over all output tensors, in float64.

    An output equal to the last bit has no finite SQNR: the metric is then left out.

    Raises:
        RunEndedError: `bad_numerics`, when the treated output has other shapes, NaN or infinity, or
            the baseline's own output does.
    """
    pairs = list(zip(floats(baseline), floats(treated), strict=False))
    shapes = [[tuple(t.shape) for t in floats(output)] for output in (baseline, treated)]
    if shapes[0] != shapes[1]:
        raise RunEndedError(Outcome.BAD_NUMERICS, f"output shapes {shapes[1]} instead of {shapes[0]}")
    check_baseline(baseline)
    if not all(torch.isfinite(t).all() for _, t in pairs):
        raise RunEndedError(Outcome.BAD_NUMERICS, "the treated output holds NaN or infinity")
    b = torch.cat([b.double().flatten() for b, _ in pairs])
    t = torch.cat([t.double().flatten() for _, t in pairs])
    signal, noise = float(b.square().sum()), float((b - t).square().sum())
    norms = float(b.norm() * t.norm())
    metrics = {"quality/max_abs_error": float((b - t).abs().max())}
    if norms > 0:
        metrics["quality/cosine"] = float(torch.dot(b, t)) / norms
    if noise > 0 and signal > 0:
        metrics["quality/sqnr_db"] = 10 * math.log10(signal / noise)
    return metrics


def check_baseline(output: Any) -> None:
    """Whether the unquantized output is a number to compare with.

    Raises:
        RunEndedError: `bad_numerics`, when it holds NaN or infinity: float16 ends at 65504.
    """
    if not all(torch.isfinite(tensor).all() for tensor in floats(output)):
        raise RunEndedError(
            Outcome.BAD_NUMERICS,
            "the unquantized baseline itself returns NaN or infinity: these weights, inputs and dtype give no number",
            "dtype=bfloat16 or float32, whose range is wider than float16's; or other weights",
        )


def on_cpu(output: Any) -> Any:
    """A copy of an output that later calls (CUDA graphs among them) cannot overwrite."""
    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.detach().to("cpu", copy=True), output)
