"""What of a process' settings can change a number: read before and after a run, so that none is left to the next."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo.config
import torch._functorch.config
import torch._inductor.config

from src.records.environment import counted_variables

_COMPILERS = {
    "inductor": torch._inductor.config,
    "dynamo": torch._dynamo.config,
    "functorch": torch._functorch.config,
}
_BACKENDS = {
    "cudnn": ("enabled", "benchmark", "deterministic", "allow_tf32"),
    "cuda.matmul": (
        "allow_tf32",
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
    ),
    "mkldnn": ("enabled",),
}
_TINY = 1e-310  # a denormal number: zero where they are flushed


def process_settings() -> dict[str, Any]:
    """All of them by name: torch's own, its compilers', the process' threads, CPUs, variables and folder."""
    compilers = {
        f"{compiler}.{name}": value
        for compiler, config in _COMPILERS.items()
        for name, value in config.get_config_copy().items()
    }
    return compilers | dict(_torch_settings()) | _of_the_process()


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs, one line each: ``torch.num_threads was 2 and is 1``."""
    names = sorted({*before, *after})
    return [
        f"{name} was {_short(before.get(name))} and is {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _torch_settings() -> Iterator[tuple[str, Any]]:
    yield "torch.num_threads", torch.get_num_threads()
    yield "torch.num_interop_threads", torch.get_num_interop_threads()
    yield "torch.float32_matmul_precision", torch.get_float32_matmul_precision()
    yield "torch.default_dtype", torch.get_default_dtype()
    yield "torch.default_device", str(torch.get_default_device())
    yield "torch.grad_enabled", torch.is_grad_enabled()
    yield "torch.inference_mode", torch.is_inference_mode_enabled()
    yield "torch.deterministic_algorithms", torch.are_deterministic_algorithms_enabled()
    yield "torch.anomaly_mode", torch.is_anomaly_enabled()
    yield "torch.denormals_flushed", bool(torch.tensor([_TINY], dtype=torch.float64) * 1.0 == 0.0)
    for kind in ("cpu", "cuda"):
        yield f"torch.autocast.{kind}", torch.is_autocast_enabled(kind)
    for path, names in _BACKENDS.items():
        place: Any = torch.backends
        for part in path.split("."):
            place = getattr(place, part)
        for name in names:
            yield f"torch.backends.{path}.{name}", getattr(place, name)
    for kernel in ("flash", "mem_efficient", "math", "cudnn"):
        yield f"torch.sdp.{kernel}", getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")()
    yield "torch.compiler.stance", str(torch._dynamo.eval_frame._stance)


def _of_the_process() -> dict[str, Any]:
    variables = {f"variable {name}": value for name, value in counted_variables(os.environ).items()}
    return variables | {"process.cpus": os.sched_getaffinity(0), "process.folder": str(Path.cwd())}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
