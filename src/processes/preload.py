"""Imported once by the fork server: what every run needs. It must only import: threads do not survive a fork."""

import contextlib
import gc
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

from src.processes.children import PRELOAD_VARIABLE


def preload() -> None:
    """Import what the variable lists; warnings of libraries would land in the user's progress display."""
    paths = [path for path in os.environ.get(PRELOAD_VARIABLE, "").split(",") if path]
    if not paths:
        return
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            with _cuda_left_alone(), _uncollected():
                import_all(paths)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_all(paths: Sequence[str]) -> None:
    """Import modules, and the modules that classes live in; what cannot be imported is the run's to report."""
    for path in paths:
        module, _, attribute = path.rpartition(".")
        try:
            importlib.import_module(path)
        except Exception:
            with contextlib.suppress(Exception):
                getattr(importlib.import_module(module), attribute)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside, nobody looks for garbage, a fifth of the time; what was imported is not looked at afterwards either."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextmanager
def _cuda_left_alone() -> Iterator[None]:
    """Inside, CUDA is not initialised: no process that is forked after that could use it.

    Imports that ask for the device's compute capability, as torchao's MX formats do and diffusers by them, are told
    by NVML; one that needs more of CUDA fails, and is left to the run.
    """
    import torch

    if not torch.cuda.is_available():
        yield
        return
    from torch._dynamo.device_interface import caching_worker_device_properties

    answers = [
        (torch.cuda, "get_device_properties", _properties),
        (torch.cuda, "current_device", lambda: 0),
        (torch._C, "_cuda_init", _refuse),
    ]
    own = [getattr(module, name) for module, name, _ in answers]
    for module, name, answer in answers:
        setattr(module, name, answer)
    try:
        yield
    finally:
        for (module, name, _), before in zip(answers, own, strict=True):
            setattr(module, name, before)
        caching_worker_device_properties.clear()  # torch keeps what it is told


def _properties(device: object = None) -> SimpleNamespace:
    """The compute capability of NVML's first device."""
    import pynvml

    pynvml.nvmlInit()
    try:
        first = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(first)
    finally:
        pynvml.nvmlShutdown()
    return SimpleNamespace(major=major, minor=minor)


def _refuse() -> NoReturn:
    raise RuntimeError("CUDA must not be initialised in the fork server")


preload()
