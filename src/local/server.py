"""What this process sets before its fork server starts, and what that imports for all runs."""

import signal
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from src.config.schema import CalibrateConf, RootConf
from src.launching.preparation import PRELOAD, writable
from src.processes.isolated import share_caches


def preloaded(configs: Iterable[RootConf]) -> list[str]:
    """What the server imports for these runs."""
    return [*PRELOAD, *sorted({path for cfg in configs for path in needed(cfg)})]


def prepared(outputs: Path) -> Path:
    """What this process sets before it starts the fork server; returns the outputs folder, absolute.

    Raises:
        ConfigError: the folder cannot be written.
    """
    outputs = writable(outputs)
    share_caches(outputs)
    signal.signal(signal.SIGTERM, _interrupt)
    return outputs


def needed(cfg: RootConf | CalibrateConf) -> list[str]:
    """What else takes long to import, and only some runs use: the model's class, and the compiler."""
    compiler = [] if cfg.compile.scope == "none" else ["torch._inductor.compile_fx"]
    return [cfg.model.factory["_target_"], *compiler]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
