"""What every run has around its task: a device opened before it, a record on disk after it."""

import math
import os
from collections.abc import Callable
from pathlib import Path

from hydra.utils import get_class

from src.config.schema.model import PIPELINE
from src.config.schema.root import AUTO, RootConf
from src.context import Kept, RunContext
from src.records.environment import of_torch
from src.records.record import Outcome, Record


def opened(
    cfg: RootConf, record: Record, folder: Path, tell: Callable[[str], None], kept: Kept | None
) -> RunContext:
    """The run as its task sees it, on its device, its dtype settled.

    Raises:
        RunEndedError: `unsupported`, when this machine does not have the device.
    """
    device = get_class(cfg.gpu._target_)(cfg.gpu).open()
    record.device = device.as_dict()
    record.environment["hardware"] |= device.hardware()
    if not cfg.task.trains:
        record.details["weights"] = cfg.model.weights.in_words()
    if cfg.target == PIPELINE and cfg.model.pipeline.prompts:
        record.details["prompts"] = cfg.model.pipeline.prompts
    run = RunContext(cfg, record, folder, device, tell, kept)
    if cfg.dtype == AUTO:
        # It imports torch, which a device that torch does not know can do without.
        from src.tasks.arms.baseline import settle_dtype

        settle_dtype(run)
    return run


def written(record: Record, folder: Path) -> Record:
    """The record, on disk on return; a number that is none is said and left out."""
    strange = [name for name, value in record.metrics.items() if not math.isfinite(value)]
    if strange:  # JSON has no NaN: without this there would be no record
        record.outcome, record.verdict = Outcome.FAILED, ""
        record.reason = "; ".join(f"{name} is {record.metrics.pop(name)}" for name in strange)
    if record.environment["pid"] != str(os.getpid()):
        os._exit(1)  # a copy that the task forked: the run has a record without it
    record.environment |= of_torch()  # on a node it is loaded in the run
    record.write(folder)
    return record
