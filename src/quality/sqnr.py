"""How far the treated output is from the baseline's, at one forward on identical inputs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.workloads.weights.parameters import floats

_PART = 2**18  # values


def compare(baseline: Any, treated: Any) -> dict[str, float]:
    """SQNR in dB, cosine similarity and largest absolute error over all output tensors, in float64.

    An output equal to the last bit has no finite SQNR: the metric is then left out. A baseline of zeros has neither
    that nor a cosine, and nothing at all is said of one that both give.

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
    parts = (part for b, t in pairs for part in zip(_parts(b), _parts(t), strict=True))
    sums = np.array([_sums(b.double(), t.double()) for b, t in parts]).reshape(-1, 5)
    signal, power, noise, product = sums[:, :4].sum(axis=0).tolist()
    if not signal and not noise:
        return {}
    metrics = {"quality/max_abs_error": float(sums[:, 4].max(initial=0.0))}
    if (norms := math.sqrt(signal) * math.sqrt(power)) > 0:
        metrics["quality/cosine"] = product / norms
    if noise > 0 and signal > 0:
        metrics["quality/sqnr_db"] = 10 * math.log10(signal / noise)
    return metrics


def sqnr_db(baseline: Any, treated: Any) -> float:
    """Infinite when all values are equal; minus infinity when only those of the baseline are all zero."""
    metrics = compare(baseline, treated)
    equal = not metrics.get("quality/max_abs_error")
    return metrics.get("quality/sqnr_db", math.inf if equal else -math.inf)


def is_zero(output: Any) -> bool:
    """Whether all floating-point values of an output are zero."""
    return not any(bool(tensor.any()) for tensor in floats(output))


def _parts(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Its values in parts, that no copy of all of them in float64 is made."""
    found: Sequence[torch.Tensor] = tensor.flatten().split(_PART)
    return found if tensor.numel() else ()


def _sums(b: torch.Tensor, t: torch.Tensor) -> tuple[float, ...]:
    """Of both squares, of the squared differences, of the products; and the largest difference."""
    apart = b - t
    squares = (float(torch.dot(x, y)) for x, y in ((b, b), (t, t), (apart, apart), (b, t)))
    return *squares, float(apart.abs().max())


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
