"""`hydra/sweeper=checked`: the product of all listed values, each job composed and validated before any starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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
        """Remember what Hydra hands over, and make the launcher."""
        self._loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the jobs of `params` and the command line, whose values win.

        Raises:
            ConfigError: some job is wrong; none was launched.
        """
        from src.app.sweep_axes import varied
        from src.config.errors import explained

        with explained():
            jobs = self._jobs([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
            self._validate(jobs, varied(jobs))
        returns: list[Sequence[JobReturn]] = []
        remaining, size = iter(jobs), self.max_batch_size or len(jobs)
        while batch := list(islice(remaining, size)):
            returns.append(self._launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns

    def _jobs(self, lines: list[str]) -> list[list[str]]:
        overrides = OverridesParser.create(self._loader).parse_overrides(lines)
        axes = {override.get_key_element(): list(_values(override)) for override in overrides}
        return [list(job) for job in product(*axes.values())]

    def _validate(self, jobs: list[list[str]], varied: list[dict[str, str]]) -> None:
        """Args: varied: what tells each from the others."""
        from src.app.loader import check_job
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


def _values(override: Override) -> Iterator[str]:
    """The overrides that one axis of the sweep takes in turn."""
    from src.app.sweep_axes import swept_values
    from src.config.errors import ConfigError

    line, key = str(override.input_line), override.get_key_element()
    if not override.is_sweep_override():
        yield line
    elif override.is_hydra_override():
        raise ConfigError(f"{line}: a sweep has one setting of Hydra's own; give a single value")
    elif not override.is_discrete_sweep():
        raise ConfigError(f"{line}: an interval has no listed values; write {key}=1,2,4 or {key}=range(1,5)")
    else:
        yield from (f"{key}={value}" for value in swept_values(override))
