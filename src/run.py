"""The command line of a run or a sweep: `python -m src.run --help`.

The way of one run: `main` composes and validates, the launcher (hydra_plugins/quantpay) starts a process per
run, and that process calls `execute`, which hands over to the task: `src.tasks.latency.measure_latency`.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.config.schema.root import RootConf
from src.context import Kept
from src.records.record import Record

if TYPE_CHECKING:
    from src.planning.planning import Predict


def main() -> int:
    """Compose, validate, run; the exit status is 0, 1 or 2 as the help says."""
    from src.app.application import main as hydra_main

    return hydra_main("config", run_single, prog="python -m src.run")


def run_single(config: DictConfig) -> int:
    """One run without --multirun: a sweep of one."""
    from src.checks.validation import validate
    from src.local.sweep import run_sweep

    configs = [validate(config)]
    return max(run_sweep(configs, execute, predicting(configs)))


def predicting(configs: Sequence[RootConf]) -> "Predict | None":
    """What a plan, or a sweep with a budget, predicts speedups by; None: these runs are neither."""
    if not any(cfg.plan or cfg.launch.budget for cfg in configs):
        return None
    from src.forecasts.models.predicting import Predicting, command_line

    return Predicting(command_line())


def execute(
    cfg: RootConf, record: Record, folder: Path, tell: Callable[[str], None], kept: Kept | None = None
) -> Record:
    """One run, in a process apart: whatever happens becomes the record, and it is on disk on return.

    Args:
        record: the run's identity; filled in here.
        folder: where everything of the run is written.
        kept: what other runs of this process left, where there are any.
    """
    from hydra.utils import get_method

    from src.outcomes import ending_in
    from src.records.environment import environment
    from src.records.record import Outcome
    from src.tasks.execution import opened, written

    record.environment, run = environment(), None
    with ending_in(record):
        run = opened(cfg, record, folder, tell, kept)
        task = get_method(cfg.task._target_)  # conf/task/latency.yaml: src.tasks.latency.measure_latency
        task(run)
    if record.outcome is Outcome.OOM and run and cfg.resolution:
        from src.planning.needs.smaller import after_oom

        record.remedy = after_oom(run.cfg, run.device) or record.remedy
    if record.outcome is Outcome.OOM and run:
        from src.devices.crowded import withhold_if_crowded

        withhold_if_crowded(record, run.device)
    return written(record, folder)


if __name__ == "__main__":
    sys.exit(main())
