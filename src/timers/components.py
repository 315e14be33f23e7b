"""When each module of a pipeline computed within one call, and for how long: stamps around the module's calls."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import nn

_DECODING = "decode"  # what pipelines call of a VAE, in place of the module itself
_Stamp = Callable[[], Any]


class Span(NamedTuple):
    """One call of a module, in ms since the pipeline's call began."""

    start_ms: float
    end_ms: float

    @property
    def ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


class Spans(NamedTuple):
    """One call of a pipeline, and the calls of its modules by their names."""

    total_ms: float
    calls: dict[str, list[Span]]


def timed_components(call: Callable[[], Any], modules: Mapping[str, nn.Module], device_kind: str) -> Spans:
    """Call once, with a stamp before and behind each call of a module: events on CUDA, else the clock.

    The classes of the modules are watched and not the modules, which may be compiled: a hook would be compiled into
    them.
    """
    cuda = device_kind == "cuda"
    stamp: _Stamp = _event if cuda else time.perf_counter
    found: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    if cuda:
        torch.cuda.synchronize()
    with ExitStack() as watched:
        for name, module in modules.items():
            watched.enter_context(_watched(module, found[name], stamp))
        start = stamp()
        call()
        end = stamp()
    if cuda:
        torch.cuda.synchronize()
    since: Callable[[Any], float] = start.elapsed_time if cuda else lambda end: (end - start) * 1e3
    spans = {name: [Span(since(a), since(b)) for a, b in calls] for name, calls in found.items()}
    return Spans(float(since(end)), spans)


@contextmanager
def _watched(module: nn.Module, calls: list[tuple[Any, Any]], stamp: _Stamp) -> Iterator[None]:
    """Note when a module, or the decoding of one that has such, is called; afterwards all is as it was."""
    holder, name = (module, _DECODING) if hasattr(module, _DECODING) else (type(module), "__call__")
    own = vars(holder).get(name)
    called = getattr(holder, name)

    @wraps(called)
    def timed(*args: Any, **kwargs: Any) -> Any:
        if holder is not module and args[0] is not module:  # another of the same class
            return called(*args, **kwargs)
        start = stamp()
        result = called(*args, **kwargs)
        calls.append((start, stamp()))
        return result

    setattr(holder, name, timed)
    try:
        yield
    finally:
        if own is None:
            delattr(holder, name)
        else:
            setattr(holder, name, own)


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
