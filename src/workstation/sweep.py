"""A sweep on a machine with several devices: a cluster's sweep (`src.jobs.sweep`), on a pool of them."""

import signal
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from src.config.errors import ConfigError
from src.config.schema.cluster import ClusterConf, PoolConf
from src.config.schema.root import RootConf
from src.context import Execute
from src.devices.cores import dealt_cpus
from src.devices.visible import CPU, visible_devices
from src.jobs.sweep import run_on_cluster
from src.processes.signals import end_in_order
from src.workstation.pool import DevicePool

_CPU_DEVICE = "src.devices.device.CpuDevice"


def run_on_devices(
    configs: Iterable[RootConf], conf: PoolConf, execute: Execute, folders: list[Path] | None = None
) -> list[int]:
    """Run every configuration that is not measured yet, one at a time on each device.

    Args:
        configs: validated, all of one sweep.
        execute: what a run's process does: `src.run.execute`.
        folders: filled with where each one's record lies.

    Returns:
        An exit status per run: 0 for a finding, 1 otherwise.

    Raises:
        ConfigError: the devices cannot be these, a run needs the whole machine, or outputs cannot be written.
        KeyboardInterrupt: Ctrl-C, SIGTERM or a closed terminal; what ran is ended and recorded, what had not
            started is left out.
    """
    remaining = iter(configs)
    first = next(remaining)
    pool, cluster = pool_for(conf, Path(first.outputs).resolve())
    end_in_order(signal.default_int_handler)
    side_by_side = cluster.array_parallelism > 1
    return run_on_cluster(_alone(chain([first], remaining), side_by_side), cluster, pool, execute, folders)


def pool_for(conf: PoolConf, outputs: Path = Path()) -> tuple[DevicePool, ClusterConf]:
    """The devices, and what they are told as a cluster would be.

    Raises:
        ConfigError: the devices cannot be these.
    """
    devices = devices_of(conf)
    cluster = ClusterConf(
        time_min=conf.time_min,
        array_parallelism=len(devices),
        runs_per_job="1",
        poll_s=conf.poll_s,
        max_num_timeout=conf.max_num_timeout,
    )
    cpus = dealt_cpus(devices, visible_devices())
    return DevicePool(outputs, devices, conf.max_num_timeout, cpus), cluster


def devices_of(conf: PoolConf) -> list[str]:
    """A slot per device, as CUDA_VISIBLE_DEVICES names it; a single one on the CPU where there is none.

    Raises:
        ConfigError: a device is given twice, or its name is none.
    """
    found = visible_devices() if conf.devices is None else [str(device) for device in conf.devices]
    shown = f"hydra.launcher.devices=[{','.join(found)}]"
    if len(set(found)) < len(found):
        raise ConfigError(f"{shown}: one of them is there twice; a device takes one run at a time")
    wrong = [name for name in found if not name or name.startswith("-") or "," in name]
    if wrong:
        raise ConfigError(f"{shown}: {wrong[0] or 'nothing'} is no device; give numbers or UUIDs: [0,1]")
    return found or [CPU]


def _alone(configs: Iterable[RootConf], side_by_side: bool) -> Iterator[RootConf]:
    """Runs on the CPU disturb each other's timing, and everyone else's."""
    for cfg in configs:
        if side_by_side and cfg.gpu._target_ == _CPU_DEVICE:
            raise ConfigError(
                f"gpu={cfg.gpu.name}: runs on the CPU side by side would disturb each other's timing; "
                "give them one at a time: hydra/launcher=local, or hydra.launcher.devices=[]"
            )
        yield cfg
