"""What this process sets before its fork server starts, and what that imports for all runs."""

import signal
from collections.abc import Sequence
from pathlib import Path

from src.config.schema.root import CalibrateConf, RootConf
from src.launching.preparation import PRELOAD, writable
from src.processes.caches import share_caches
from src.processes.signals import end_in_order

COMPILER = ("torch._inductor.compile_fx", "src.compilation.toolchain_meanwhile")


def preloaded(configs: Sequence[RootConf | CalibrateConf], usual: Sequence[str] = PRELOAD) -> list[str]:
    """What the server imports for these runs, in order: the compiler first, whose questions take a while.

    Args:
        usual: what all of them import.
    """
    compiles = any(cfg.compile.scope != "none" for cfg in configs)
    models = [cfg.model.factory["_target_"] for cfg in configs]
    return list(dict.fromkeys([*(COMPILER if compiles else ()), *usual, *models]))


def prepared(outputs: Path) -> Path:
    """What this process sets before it starts the fork server; returns the outputs folder, absolute.

    Raises:
        ConfigError: the folder cannot be written.
    """
    outputs = writable(outputs)
    share_caches(outputs)
    end_in_order(signal.default_int_handler)
    return outputs
