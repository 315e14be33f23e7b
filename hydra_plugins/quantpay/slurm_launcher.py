"""`hydra/launcher=slurm`: the runs of a sweep as job arrays on a cluster, one array for each kind of GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.config.cluster_schema import ClusterConf


@dataclass
class SlurmLauncherConf(ClusterConf):
    """What `hydra.launcher.KEY=VALUE` sets; src/config/cluster_schema.py says what each key means."""

    _target_: str = "hydra_plugins.quantpay.slurm_launcher.SlurmLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="slurm", node=SlurmLauncherConf, provider="quantpay"
)


class SlurmLauncher(Launcher):
    """Sends what is not measured yet, then follows it or returns."""

    def __init__(self, **conf: object) -> None:
        """Args: conf: the keys of `ClusterConf`; read in `setup`, where a mistake is told as one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over, and check the launcher's own keys.

        Raises:
            ConfigError: a key of `hydra.launcher` has a value that is not accepted.
        """
        from src.config.validate import check_values

        self.context, self.task, self.config = hydra_context, task_function, config
        conf = OmegaConf.to_object(config.hydra.launcher)
        assert isinstance(conf, ClusterConf)
        self.conf = conf
        check_values(conf, "hydra.launcher")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Send all jobs; each return value is the run's exit status, 0 for one that is not waited for.

        Another application's jobs are always waited for, and return what its task does.

        Raises:
            ConfigError: there is no SLURM here, or it refuses what is asked for.
        """
        from src.config.loader import checked_jobs
        from src.launching.cluster import run_on_cluster
        from src.launching.foreign import is_foreign, run_foreign
        from src.launching.slurm import SlurmBackend, check_available

        if not is_foreign(self.config) and self.config.plan:
            from src.planning.cluster import show_cluster_plan

            show_cluster_plan(
                list(checked_jobs(self.context.config_loader, self.config, job_overrides)), self.conf
            )
            done = JobStatus.COMPLETED
            return [JobReturn(overrides=list(job), status=done, _return_value=0) for job in job_overrides]
        check_available()
        backend = SlurmBackend(self.conf.array_parallelism, self.conf.max_num_timeout)
        if is_foreign(self.config):
            return run_foreign(
                self.context, self.task, self.config, job_overrides, initial_job_idx, self.conf, backend
            )
        configs = checked_jobs(self.context.config_loader, self.config, job_overrides)
        statuses = run_on_cluster(configs, self.conf, backend)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=status)
            for overrides, status in zip(job_overrides, statuses, strict=True)
        ]
