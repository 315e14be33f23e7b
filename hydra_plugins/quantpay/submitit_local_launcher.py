"""`hydra/launcher=submitit_local`: the runs of a sweep on the devices of this machine, one at a time on each."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.config.cluster_schema import PoolConf


@dataclass
class SubmititLocalLauncherConf(PoolConf):
    """What `hydra.launcher.KEY=VALUE` sets; src/config/cluster_schema.py says what each key means."""

    _target_: str = "hydra_plugins.quantpay.submitit_local_launcher.SubmititLocalLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="submitit_local", node=SubmititLocalLauncherConf, provider="quantpay"
)


class SubmititLocalLauncher(Launcher):
    """Runs what is not measured yet, as many at a time as there are devices."""

    def __init__(self, **conf: object) -> None:
        """Args: conf: the keys of `PoolConf`; read in `setup`, where a mistake is told as one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over, and check the launcher's own keys.

        Raises:
            ConfigError: a key of `hydra.launcher` has a value that is not accepted.
        """
        from src.config.validate import check_values

        self.context, self.task, self.config = hydra_context, task_function, config
        conf = OmegaConf.to_object(config.hydra.launcher)
        assert isinstance(conf, PoolConf)
        self.conf = conf
        check_values(conf, "hydra.launcher")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; each return value is the run's exit status, or what another application's task returned.

        Raises:
            ConfigError: the devices cannot be these, or a run needs the whole machine.
        """
        from src.config.loader import checked_jobs
        from src.launching.foreign import is_foreign, run_foreign
        from src.launching.workstation import pool_for, run_on_devices

        if is_foreign(self.config):
            pool, conf = pool_for(self.conf)
            return run_foreign(
                self.context, self.task, self.config, job_overrides, initial_job_idx, conf, pool
            )
        if self.config.plan:
            from src.planning.cluster import show_cluster_plan

            plan = list(checked_jobs(self.context.config_loader, self.config, job_overrides))
            show_cluster_plan(plan, pool_for(self.conf)[1])
            done = JobStatus.COMPLETED
            return [JobReturn(overrides=list(job), status=done, _return_value=0) for job in job_overrides]
        configs = checked_jobs(self.context.config_loader, self.config, job_overrides)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=status)
            for overrides, status in zip(job_overrides, run_on_devices(configs, self.conf), strict=True)
        ]
