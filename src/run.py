"""The command line of a run or a sweep: `python -m src.run --help`.

The way of one run: `main` composes and validates, the launcher (hydra_plugins/quantpay) starts a process per
run, and that process calls `execute`, which hands over to the task: `src.tasks.latency.measure_latency`.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from src.config.schema import AUTO, RootConf
from src.context import Kept, RunContext
from src.records.record import Outcome, Record


def main() -> int:
    """Compose, validate, run; the exit status is 0, 1 or 2 as the help says."""
    from src.app.application import main as hydra_main

    return hydra_main("config", run_single, prog="python -m src.run")


def run_single(config: DictConfig) -> int:
    """One run without --multirun: a sweep of one."""
    from src.checks.validation import validate
    from src.local.sweep import run_sweep

    return max(run_sweep([validate(config)], execute))


def execute(
    cfg: RootConf, record: Record, folder: Path, tell: Callable[[str], None], kept: Kept | None = None
) -> Record:
    """One run, in a process apart: whatever happens becomes the record, and it is on disk on return.

    Args:
        cfg: the validated configuration.
        record: the run's identity; filled in here.
        folder: where everything of the run is written.
        tell: hears which phase is on.
        kept: what other runs of this process left, where there are any.
    """
    from hydra.utils import get_class, get_method

    from src.outcomes import ended, log_text
    from src.records.environment import environment

    record.environment = environment()
    try:
        device = get_class(cfg.gpu._target_)(cfg.gpu).open()
        record.device = device.as_dict()
        record.environment["hardware"] |= device.hardware()
        run = RunContext(cfg, record, folder, device, tell, kept)
        if cfg.dtype == AUTO:
            # It imports torch, which a device that torch does not know can do without.
            from src.tasks.baseline import settle_dtype

            settle_dtype(run)
        task = get_method(cfg.task._target_)  # conf/task/latency.yaml: src.tasks.latency.measure_latency
        task(run)
    except Exception as error:
        end = ended(error)
        record.outcome, record.reason, record.remedy, record.verdict = end.outcome, end.reason, end.remedy, ""
        print(log_text(error), file=sys.stderr)
    strange = [name for name, value in record.metrics.items() if not math.isfinite(value)]
    if strange:  # JSON has no NaN: without this there would be no record
        record.outcome, record.verdict = Outcome.FAILED, ""
        record.reason = "; ".join(f"{name} is {record.metrics.pop(name)}" for name in strange)
    if record.environment["pid"] != str(os.getpid()):
        os._exit(1)  # a copy that the task forked: the run has a record without it
    record.write(folder)
    return record


if __name__ == "__main__":
    sys.exit(main())
