"""`hydra/launcher=slurm`: the runs of a sweep as job arrays on a cluster, one array for each kind of GPU."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore

from hydra_plugins.quantpay._launcher import SendingLauncher
from src.config.schema.cluster import ClusterConf

if TYPE_CHECKING:
    from src.config.schema.root import RootConf
    from src.slurm.backend import SlurmBackend


@dataclass
class SlurmLauncherConf(ClusterConf):
    """What `hydra.launcher.KEY=VALUE` sets; src/config/schema/cluster.py says what each key means."""

    _target_: str = "hydra_plugins.quantpay.slurm_launcher.SlurmLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="slurm", node=SlurmLauncherConf, provider="quantpay"
)


class SlurmLauncher(SendingLauncher):
    """Sends what is not measured yet, then follows it or returns."""

    conf: ClusterConf

    def run(self, configs: "Iterable[RootConf]", folders: list[Path]) -> list[int]:
        """See `SendingLauncher.run`."""
        from src.jobs.sweep import run_on_cluster
        from src.run import execute

        backend, conf = self.backend()
        return run_on_cluster(configs, conf, backend, execute, folders)

    def asked(self) -> ClusterConf:
        """The launcher's own keys."""
        return self.conf

    def backend(self) -> "tuple[SlurmBackend, ClusterConf]":
        """This cluster.

        Raises:
            ConfigError: there is no SLURM here.
        """
        from src.slurm.backend import SlurmBackend, check_available

        check_available()
        return SlurmBackend(self.conf.array_parallelism, self.conf.max_num_timeout), self.conf
