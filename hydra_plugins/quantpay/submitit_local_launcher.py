"""`hydra/launcher=submitit_local`: the runs of a sweep on the devices of this machine, one at a time on each."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore

from hydra_plugins.quantpay._launcher import SendingLauncher
from src.config.schema.cluster import ClusterConf, PoolConf

if TYPE_CHECKING:
    from src.config.schema.root import RootConf
    from src.workstation.pool import DevicePool


@dataclass
class SubmititLocalLauncherConf(PoolConf):
    """What `hydra.launcher.KEY=VALUE` sets; src/config/schema/cluster.py says what each key means."""

    _target_: str = "hydra_plugins.quantpay.submitit_local_launcher.SubmititLocalLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="submitit_local", node=SubmititLocalLauncherConf, provider="quantpay"
)


class SubmititLocalLauncher(SendingLauncher):
    """Runs what is not measured yet, as many at a time as there are devices."""

    conf: PoolConf

    def run(self, configs: "Iterable[RootConf]", folders: list[Path]) -> list[int]:
        """See `SendingLauncher.run`."""
        from src.run import execute
        from src.workstation.sweep import run_on_devices

        return run_on_devices(configs, self.conf, execute, folders)

    def asked(self) -> ClusterConf:
        """The devices as a cluster's launcher would ask for them."""
        return self.backend()[1]

    def backend(self) -> "tuple[DevicePool, ClusterConf]":
        """The devices of this machine.

        Raises:
            ConfigError: they cannot be these.
        """
        from src.workstation.sweep import pool_for

        return pool_for(self.conf)
