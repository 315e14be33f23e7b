"""`hydra/sweeper=breakeven`: where along one axis the speedup crosses 1, for each combination of everything else."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.quantpay._launcher import measures
from hydra_plugins.quantpay.local_launcher import LocalLauncher
from hydra_plugins.quantpay.sweeper import CheckedSweeper
from src.config.schema.search import SearchConf

if TYPE_CHECKING:
    from src.search.axis import AxisSearch, Point
    from src.search.runs import Notes
    from src.search.search import Asked, Search

Job = list[str]


@dataclass
class BreakevenSweeperConf(SearchConf):
    """src/config/schema/search.py says what each key means."""

    _target_: str = "hydra_plugins.quantpay.breakeven_sweeper.BreakevenSweeper"


ConfigStore.instance().store(
    group="hydra/sweeper", name="breakeven", node=BreakevenSweeperConf, provider="quantpay"
)


class BreakevenSweeper(CheckedSweeper):
    """Launches batch after batch, each of the values that all combinations want next."""

    def __init__(self, **conf: Any) -> None:
        """Args: conf: the sweeper's keys; read in `setup`, where a mistake is told as one."""
        super().__init__(params=conf["params"], max_batch_size=None)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over, check the sweeper's own keys, and make the launcher.

        Raises:
            ConfigError: a key of `hydra.sweeper` has a value that is not accepted, or the runs are no measurements.
        """
        from src.checks.validation import check_values
        from src.config.errors import ConfigError
        from src.search.question import axis_key, values_of

        if not measures(config):
            raise ConfigError(
                "hydra/sweeper=breakeven: searches among measurements (python -m src.run) alone"
            )
        if budget := config.launch.budget:
            raise ConfigError(
                f"launch.budget={budget}: not with hydra/sweeper=breakeven, which chooses its runs itself; "
                "hydra.sweeper.max_runs says how many"
            )
        self._conf: SearchConf = OmegaConf.to_object(config.hydra.sweeper)  # type: ignore[assignment]
        check_values(self._conf, "hydra.sweeper")
        self._axis, self._along = axis_key(self._conf.axis, config), values_of(self._conf)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search; what was found is printed, and lies beside what was asked.

        Raises:
            ConfigError: some run is wrong.
        """
        from src.app.composing.sweep_axes import jobs
        from src.config.errors import explained
        from src.search.question import refuse_axis
        from src.search.runs import Notes
        from src.search.search import Search, budget
        from src.search.told import plan_line, show

        with explained():
            lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
            self._combinations = jobs(lines, self._loader)
            refuse_axis(self._axis, self._combinations[0])
            self._apart = self._checked_ends()
            searches = self._searches()
        search = Search(searches, self._conf.max_runs or budget(searches))
        outputs = Path(str(self._config.outputs))
        notes = Notes(outputs, self._axis, self._along, self._combinations, self._apart, self._devices)
        returns: list[Sequence[JobReturn]] = []
        if self._config.plan:
            search.run(partial(self._launched, search, returns))
            print(plan_line(search))
            return returns
        over = search.run(partial(self._measured, search, notes, returns), notes.asked())
        notes.write(search)
        notes.write_table(search)
        show(search, notes, over)
        return returns

    def _job(self, asked: "Asked") -> Job:
        number, index = asked
        return [*self._combinations[number], f"{self._axis}={self._along[index]}"]

    def _checked_ends(self) -> list[dict[str, str]]:
        """Check every combination at both ends, the first at every value; returns what tells each from the others."""
        from src.app.composing.sweep_axes import varied

        numbers, last = range(len(self._combinations)), len(self._along) - 1
        ends = [self._job((number, index)) for number in numbers for index in (0, last)]
        apart = varied(ends)
        self._validate(ends, apart)
        between = [self._job((0, index)) for index in range(1, last)]
        self._validate(between, [apart[0]] * len(between))
        return [{key: value for key, value in each.items() if key != self._axis} for each in apart[::2]]

    def _searches(self) -> "list[AxisSearch]":
        from src.app.composing.loader import checked_jobs
        from src.config.aliases import aliases
        from src.search.axis import AxisSearch
        from src.search.devices import device_names
        from src.search.forecasts import forecaster, guesses, refuse_unchanged

        last = len(self._along) - 1
        numbers = range(len(self._combinations))
        ends = [self._job((number, index)) for number in numbers for index in (0, last)]
        configs = list(checked_jobs(self._loader, self._config, ends))
        refuse_unchanged(self._conf.axis, *configs[:2])
        margin = configs[0].measure.margin
        self._confidences = [first.measure.confidence for first in configs[::2]]
        outputs = Path(configs[0].outputs)
        self._devices = device_names(configs[::2], isinstance(self._launcher, LocalLauncher))
        known = forecaster(
            outputs, self._conf.imports, aliases("quant", self._loader), margin, filter(None, self._devices)
        )
        asked = zip(configs[::2], configs[1::2], self._combinations, self._devices, strict=True)
        return [
            AxisSearch(
                self._along, guesses(known, first, last, self._along, words, device), first.measure.margin
            )
            for first, last, words, device in asked
        ]

    def _launched(
        self, search: "Search", returns: list[Sequence[JobReturn]], batch: "list[Asked]"
    ) -> "list[Point | None]":
        """What came out of a batch, launched all at once."""
        from src.search.runs import point
        from src.search.told import batch_line

        jobs = [self._job(asked) for asked in batch]
        told = [{**self._apart[number], self._axis: str(self._along[index])} for number, index in batch]
        self._validate(jobs, told)
        print(batch_line(search, len(batch)), file=sys.stderr)
        returns.append(self._launcher.launch(jobs, initial_job_idx=sum(map(len, returns))))
        folders = [done.working_dir and Path(done.working_dir) for done in returns[-1]]
        return [
            point(self._along[index], folder or None, self._confidences[number])
            for (number, index), folder in zip(batch, folders, strict=True)
        ]

    def _measured(
        self, search: "Search", notes: "Notes", returns: list[Sequence[JobReturn]], batch: "list[Asked]"
    ) -> "list[Point | None]":
        """The same, what is asked noted before."""
        notes.write(search)
        return self._launched(search, returns, batch)
