"""A module as it is written, whatever it was compiled to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def own_code(module: nn.Module) -> Iterator[None]:
    """Inside, calls of a module and its parts run their own code: neither compiled code nor a package calls hooks."""
    compiled = {part: call for part in module.modules() if (call := part._compiled_call_impl) is not None}
    for part in compiled:
        part._compiled_call_impl = None
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for part, call in compiled.items():
            part._compiled_call_impl = call
