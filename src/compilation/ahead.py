"""Compiling without computing: on tensors that have a shape and no content, so that it takes nothing of the device.

What inductor makes lies in its cache, and does not depend on values: who compiles the same on real tensors finds it.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from torch import nn
from torch._dynamo.backends.registry import register_backend
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from src.compilation.inductor import options_of_mode
from src.compilation.scopes import compile_module, compiler_counts
from src.config.schema.root import CompileConf
from src.workloads.workload import Workload

_BACKEND = "quantpay_ahead"
_TUNING = ("max_autotune", "max_autotune_gemm", "max_autotune_pointwise", "coordinate_descent_tuning")


def needs_the_device(conf: CompileConf) -> bool:
    """Whether inductor times kernels while it compiles, by the options in effect or those of the mode."""
    import torch._inductor.config as config

    asked = options_of_mode(conf.mode) | conf.options
    return any(asked.get(name, getattr(config, name)) for name in _TUNING)


def compile_alone() -> None:
    """What a process sets that compiles beside others: no compile workers of its own."""
    import torch._inductor.config as config

    config.compile_threads = 1


@contextmanager
def without_content() -> Iterator[None]:
    """Inside, tensors have shapes, dtypes and a device, and nothing is computed or timed."""
    from torch._inductor.runtime.benchmarking import benchmarker

    refused = patch.object(benchmarker, "benchmark_gpu", _refuse)
    with refused, FakeTensorMode(allow_non_fake_inputs=True):
        yield


def _refuse(*_: object, **__: object) -> NoReturn:
    """Inductor times a matmul with and without padding, say: beside others it would choose by chance."""
    raise RuntimeError("what is timed on the device to be compiled is left to who has the device")


def compile_only(workload: Workload, conf: CompileConf) -> float | None:
    """Compile as `compile_module` does, by one call on tensors without content.

    Returns:
        Its seconds; None where everything was in the cache.
    """
    compile_module(workload.denoiser(), replace(conf, backend=_BACKEND))
    before, started = compiler_counts(), time.perf_counter()
    workload.call()
    seconds = time.perf_counter() - started
    return seconds if compiler_counts().since(before).cache_misses else None


def _compile_and_go_on(
    graph: torch.fx.GraphModule, inputs: Sequence[Any], mode: str | None = None
) -> Callable[..., Any]:
    """A backend: inductor's code is made and kept, and the graph itself is what goes on."""
    from torch._inductor.compile_fx import compile_fx

    going_on = copy.deepcopy(graph)  # inductor changes the one that it is given
    for node, value in zip(graph.graph.find_nodes(op="placeholder"), inputs, strict=True):
        if node.type is FakeTensor:  # the cache's key has the types of the arguments
            node.type = nn.Parameter if isinstance(value, nn.Parameter) else torch.Tensor
    graph.recompile()
    compile_fx(graph, inputs, config_patches=options_of_mode(mode))
    forward: Callable[..., Any] = going_on.forward
    return forward


register_backend(_compile_and_go_on, name=_BACKEND)
