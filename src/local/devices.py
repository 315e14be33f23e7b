"""What a sweep must know of its devices before its runs: asked of children, so that itself it never touches one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.config.errors import ConfigError
from src.config.schema.root import AUTO, GpuConf, RootConf
from src.processes.isolated import EndedBy, Preloaded
from src.workloads.dtype import DtypeRates, auto_dtype, knows_bfloat16, scheme_takes


class Devices:
    """Each device, and each choice of a dtype on it, is asked for once."""

    def __init__(self, server: Preloaded, folder: Path) -> None:
        """Args: folder: of the logs."""
        self.server, self.folder = server, folder
        self._described: dict[str, dict[str, Any]] = {}
        self._dtypes: dict[str, str] = {}

    def settled(self, cfg: RootConf) -> tuple[RootConf, dict[str, Any]]:
        """The configuration with its dtype, and what identifies its device: both as the run will have them."""
        device = self.described(cfg.gpu)
        return self.with_dtype(cfg, device), device

    def described(self, gpu: GpuConf) -> dict[str, Any]:
        """What identifies the device.

        Raises:
            ConfigError: it cannot be opened.
        """
        asked = repr(gpu)  # not its name alone: gpu.threads=1,2 are two devices
        if asked not in self._described:
            log = self.folder / "probe.log"
            ending = self.server.run(describe_device, (gpu,), log=log, timeout_s=300)
            if ending.by is not EndedBy.ITSELF:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                raise ConfigError(
                    f"gpu={gpu.name}: cannot be opened, {''.join(tail) or ending.reason}; {log} says more"
                )
            self._described[asked] = ending.answer
        return self._described[asked]

    def with_dtype(self, cfg: RootConf, device: dict[str, Any]) -> RootConf:
        """The configuration with the dtype that dtype=auto stands for, so that both have one key."""
        if cfg.dtype != AUTO or "absent" in device:
            return cfg
        takes, capability = scheme_takes(cfg, device["kind"]), device.get("compute_capability")
        if knows_bfloat16(capability):  # no process opens the device for what its description says
            return replace(cfg, dtype=auto_dtype(capability, takes, DtypeRates))
        asked = repr((cfg.gpu, takes, cfg.measure.ceilings))
        if asked not in self._dtypes:
            log = self.folder / "dtype.log"
            ending = self.server.run(describe_dtype, (cfg,), log=log, timeout_s=300)
            self._dtypes[asked] = ending.answer if ending.by is EndedBy.ITSELF else AUTO  # left to the run
        return replace(cfg, dtype=self._dtypes[asked])


def describe_device(gpu: GpuConf, tell: object) -> dict[str, Any]:
    """Open the device and describe it; one that isn't here is described by the reason."""
    from hydra.utils import get_class

    from src.hardware.host import cpu_model
    from src.outcomes import RunEndedError

    try:
        described: dict[str, Any] = get_class(gpu._target_)(gpu).open().as_dict()
    except RunEndedError as end:
        return {"absent": end.reason, "host_cpu": cpu_model()}
    return described


def describe_dtype(cfg: RootConf, tell: Callable[[str], None]) -> str:
    """The dtype that dtype=auto stands for, in a process of its own: it may take the device's ceilings."""
    from hydra.utils import get_class

    from src.tasks.arms.baseline import with_dtype

    tell("ceilings")
    return with_dtype(cfg, get_class(cfg.gpu._target_)(cfg.gpu).open()).dtype
