"""`hydra/sweeper=checked`: the product of all listed values, each job composed and validated before any starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class CheckedSweeperConf:
    """What a sweep file sets under `hydra.sweeper`."""

    _target_: str = "hydra_plugins.quantpay.sweeper.CheckedSweeper"
    params: dict[str, str] = field(default_factory=dict)  # key -> values as on the command line: 1,4,16
    max_batch_size: int | None = None  # jobs handed to the launcher at once; null: all


ConfigStore.instance().store(
    group="hydra/sweeper", name="checked", node=CheckedSweeperConf, provider="quantpay"
)


class CheckedSweeper(Sweeper):
    """Like Hydra's basic sweeper, which checks a batch at a time and only that it can be composed."""

    def __init__(self, params: dict[str, str], max_batch_size: int | None) -> None:
        self.params, self.max_batch_size = params, max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over, and make the launcher.

        Raises:
            ConfigError: a sweep with a budget is to be launched in parts.
        """
        from src.config.errors import ConfigError

        budget = OmegaConf.select(config, "launch.budget")  # of a measurement
        if budget and self.max_batch_size:
            size = f"hydra.sweeper.max_batch_size={self.max_batch_size}"
            raise ConfigError(
                f"launch.budget={budget}: not with {size}: each batch would "
                "get that time, and none could be chosen among all runs; leave one of them out"
            )
        self._loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the jobs of `params` and the command line, whose values win.

        Raises:
            ConfigError: some job is wrong; none was launched.
        """
        from src.app.composing.sweep_axes import jobs, varied
        from src.config.errors import explained

        with explained():
            lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
            listed = jobs(lines, self._loader)
            self._validate(listed, varied(listed))
        returns: list[Sequence[JobReturn]] = []
        remaining, size = iter(listed), self.max_batch_size or len(listed)
        while batch := list(islice(remaining, size)):
            returns.append(self._launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns

    def _validate(self, jobs: list[list[str]], varied: list[dict[str, str]]) -> None:
        """Args: varied: what tells each from the others."""
        from src.app.composing.loader import check_job
        from src.config.errors import ConfigError, explained, several

        problems: dict[str, str] = {}
        for job, told_apart in zip(jobs, varied, strict=True):
            try:
                with explained():
                    check_job(self._loader, self._config, job, told_apart)
            except ConfigError as error:
                run = f" (in the run {' '.join(job)})" if len(jobs) > 1 else ""
                problems.setdefault(str(error), f"{error}{run}")
        if problems:
            raise several(list(problems.values()))
