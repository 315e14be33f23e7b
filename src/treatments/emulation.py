"""torchao's own hardware checks, lifted where a scheme is emulated."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lifted(check: str) -> Iterator[None]:
    """Inside, torchao's own hardware check of this dotted path passes; with an empty path nothing is changed."""
    if not check:
        yield
        return
    module_path, _, name = check.rpartition(".")
    module = importlib.import_module(module_path)
    own = getattr(module, name)
    setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(module, name, own)
