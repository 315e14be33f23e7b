"""multiprocessing has one fork server per process, which keeps what it imported and its environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any


@contextmanager
def own_fork_server() -> Iterator[None]:
    """Inside, one that an earlier module started is not used; what is started there ends with it."""
    running: Any = forkserver._forkserver  # type: ignore[attr-defined]
    running._stop()
    try:
        yield
    finally:
        running._stop()
