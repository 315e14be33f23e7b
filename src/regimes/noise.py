"""What changed layers make of a model's output: one call with copies in their place, or with hooks on them."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from src.outcomes import RunEndedError
from src.quality.sqnr import check_baseline, is_zero, sqnr_db
from src.records.record import Outcome
from src.workloads.hooks import before
from src.workloads.pipeline import ImagePipeline
from src.workloads.workload import Workload

_NEIGHBOUR = 1.1  # of a number's last place, from below to above: as far as two roundings of it lie apart


def one_call(workload: Workload) -> Callable[[], Any]:
    """One forward of the target; of a pipeline one of its denoiser, with what the first step calls it with."""
    if not isinstance(workload.module, ImagePipeline):
        return workload.call
    denoiser, seen = workload.denoiser(), list[tuple[tuple[Any, ...], dict[str, Any]]]()

    def remember(_: str, module: nn.Module, *called: Any) -> None:
        if not seen:
            seen.append(_detached(called))

    with before([("", denoiser)], remember):
        workload.call()
    args, kwargs = seen[0]
    return lambda: denoiser(*args, **kwargs)


@contextmanager
def copied(module: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Copies in place of these layers, which come back afterwards, whatever became of the copies."""
    layers = {name: module.get_submodule(name) for name in names}
    try:
        for name, layer in layers.items():
            module.set_submodule(name, copy.deepcopy(layer))
        yield
    finally:
        for name, layer in layers.items():
            module.set_submodule(name, layer)


def rounded_otherwise(name: str, layer: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    """A layer's output as another order of summation might have rounded it: some numbers are their neighbours."""
    random = torch.Generator(output.device).manual_seed(output.shape[-1])
    shift = torch.rand(output.shape, generator=random, device=output.device, dtype=torch.float64) - 0.5
    return (output.double() * (1 + _NEIGHBOUR * torch.finfo(output.dtype).eps * shift)).to(output.dtype)


def noise_of(plain: Any, treated: Any) -> float:
    """The power of the error over that of the output; inf where the treated output is no number.

    Raises:
        RunEndedError: `bad_numerics`, when the unquantized output is none, or all zeros.
    """
    check_baseline(plain)
    if is_zero(plain):
        raise RunEndedError(
            Outcome.BAD_NUMERICS,
            "the unquantized output is all zeros: no layer's noise shows in it",
            "other weights (model.weights)",
        )
    try:
        return float(10 ** (-sqnr_db(plain, treated) / 10))
    except RunEndedError:
        return math.inf


def _detached(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), value)
