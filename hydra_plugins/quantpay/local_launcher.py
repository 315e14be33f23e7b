"""`hydra/launcher=local`: the runs of a sweep in turn on this machine, each in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.quantpay._launcher import measures, returned


@dataclass
class LocalLauncherConf:
    """The launcher has nothing to set."""

    _target_: str = "hydra_plugins.quantpay.local_launcher.LocalLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="local", node=LocalLauncherConf, provider="quantpay"
)


class LocalLauncher(Launcher):
    """Composes and validates every job before the first one starts."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; each return value is the run's exit status. What measures nothing runs as Hydra runs it."""
        from src.app.composing.loader import checked_jobs
        from src.local.sweep import run_sweep
        from src.run import execute, predicting

        if not measures(self.config):
            from hydra._internal.core_plugins.basic_launcher import BasicLauncher

            basic = BasicLauncher()
            basic.setup(hydra_context=self.context, task_function=self.task, config=self.config)
            return basic.launch(job_overrides, initial_job_idx)
        configs = list(checked_jobs(self.context.config_loader, self.config, job_overrides))
        folders: list[Path] = []
        statuses = run_sweep(configs, execute, predicting(configs), folders)
        return returned(job_overrides, statuses, folders)
