"""Hooks on the parts of a module, for as long as something is called; compiled code does not call them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

Named = Iterable[tuple[str, nn.Module]]


@contextmanager
def before(
    modules: Named, hear: Callable[[str, Any, tuple[Any, ...], dict[str, Any]], None]
) -> Iterator[None]:
    """Inside, hear of each call of these modules: name, module, what it is called with."""
    with ExitStack() as stack:
        for name, module in modules:
            stack.callback(module.register_forward_pre_hook(partial(hear, name), with_kwargs=True).remove)
        yield


@contextmanager
def after(modules: Named, hear: Callable[[str, Any, tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """Inside, hear of each call's end: name, module, positional arguments, output; what is returned replaces that."""
    with ExitStack() as stack:
        for name, module in modules:
            stack.callback(module.register_forward_hook(partial(hear, name)).remove)
        yield


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


def linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The Linear layers of a module, with their names."""
    return ((name, each) for name, each in module.named_modules() if isinstance(each, nn.Linear))


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a Linear is called with."""
    return args[0] if args else kwargs["input"]
