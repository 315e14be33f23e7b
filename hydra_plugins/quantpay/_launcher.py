"""What launchers that send jobs away have in common; the underscore keeps Hydra from loading this as a plugin."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from src.config.schema.cluster import ClusterConf
    from src.config.schema.root import RootConf
    from src.jobs.arrays import ArrayBackend


def measures(config: DictConfig) -> bool:
    """Whether a configuration is one of a measurement, and not of another command or application."""
    from src.config.schema.root import RootConf

    return OmegaConf.get_type(config) is RootConf


def returned(
    jobs: Sequence[Sequence[str]], statuses: Sequence[int], folders: Sequence[Path]
) -> list[JobReturn]:
    """What a launcher hands back: exit statuses, and as `working_dir` the runs' folders where there are any."""
    places: list[str | None] = [str(folder) for folder in folders] or [None] * len(jobs)
    return [
        JobReturn(overrides=list(job), working_dir=place, status=JobStatus.COMPLETED, _return_value=status)
        for job, status, place in zip(jobs, statuses, places, strict=True)
    ]


class SendingLauncher(Launcher, ABC):
    """Plans a sweep, or sends what is not measured yet."""

    conf: Any  # the launcher's own keys, typed

    def __init__(self, **conf: object) -> None:
        """Args: conf: the launcher's keys; read in `setup`, where a mistake is told as one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over, and check the launcher's own keys.

        Raises:
            ConfigError: a key of `hydra.launcher` has a value that is not accepted, or the runs are no measurements.
        """
        from src.checks.validation import check_values
        from src.config.errors import ConfigError

        if not measures(config):
            name = config.hydra.runtime.choices["hydra/launcher"]
            raise ConfigError(
                f"hydra/launcher={name}: sends measurements (python -m src.run) alone; other Hydra applications take "
                "hydra-submitit-launcher's submitit_slurm, or hydra/launcher=basic"
            )
        self.context, self.task, self.config = hydra_context, task_function, config
        self.conf = OmegaConf.to_object(config.hydra.launcher)
        check_values(self.conf, "hydra.launcher")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Send all jobs; each return value is the run's exit status, 0 for one that is not waited for.

        Raises:
            ConfigError: a run cannot be sent, or what takes the jobs is not there or refuses them.
        """
        from src.app.composing.loader import checked_jobs
        from src.config.errors import ConfigError

        if budget := self.config.launch.budget:
            name = self.config.hydra.runtime.choices["hydra/launcher"]
            raise ConfigError(
                f"launch.budget={budget}: not under hydra/launcher={name}, whose runs wait in a queue or beside each "
                "other; hydra/launcher=local measures one after another, and chooses as it goes"
            )
        configs = checked_jobs(self.context.config_loader, self.config, job_overrides)
        folders: list[Path] = []
        statuses = self._planned(list(configs)) if self.config.plan else self.run(configs, folders)
        return returned(job_overrides, statuses, folders)

    def _planned(self, configs: "list[RootConf]") -> list[int]:
        from src.forecasts.models.promises import Promises
        from src.planning.cluster import show_cluster_plan

        show_cluster_plan(configs, self.asked(), Promises)
        return [0] * len(configs)

    @abstractmethod
    def run(self, configs: "Iterable[RootConf]", folders: list[Path]) -> list[int]:
        """Send the runs that are not measured yet; an exit status for each of them all, and its folder."""

    @abstractmethod
    def asked(self) -> "ClusterConf":
        """What is asked of a cluster, or of this machine as if it were one."""

    @abstractmethod
    def backend(self) -> "tuple[ArrayBackend, ClusterConf]":
        """What takes the jobs, once it is known to be there; and what it is asked."""
