"""multiprocessing has one fork server per process, which keeps what it imported and its environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any

from src.launching.preparation import PRELOAD

# What runs in tests import: with it a run costs a tenth of a second of a CPU, and without it up to five.
WARM = (*PRELOAD, "diffusers.SD3Transformer2DModel", "src.forecasts.models.promises", "mlflow.entities")


@contextmanager
def own_fork_server() -> Iterator[None]:
    """Inside, one that runs already is not used, and afterwards again; what is started there ends with it."""
    running: Any = forkserver._forkserver  # type: ignore[attr-defined]
    aside = vars(running).copy()
    vars(running).update(vars(forkserver.ForkServer()))
    try:
        yield
    finally:
        running._stop()
        vars(running).update(aside)
