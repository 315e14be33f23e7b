"""`launch.budget`: which runs of a sweep are measured while there is time, and what is left to the forecast.

The rules are asked of every run before the first one, and again after each round of runs, with what these found. A
round takes at least five times as long as asking, so that most of the time is measured in.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.durations import seconds
from src.config.errors import ConfigError
from src.config.schema.root import RootConf
from src.launching.progress import SweepProgress, label
from src.launching.standing import is_settled
from src.local.left import in_words, write_left
from src.local.sharing.grouping import SMALLEST, brought_together
from src.planning.prospects import Prospect, prospects
from src.planning.teaching import next_lessons
from src.processes.isolated import Preloaded
from src.records.record import Outcome, Record

if TYPE_CHECKING:
    from src.planning.planning import Predict

_LONGEST_S = 1800.0  # after that the rules are not asked any longer
_ASKING = 5.0  # times as long as asking the rules took, a round takes at least
_LAST_ASKING = 0.1  # of the budget: so long the rules may be asked once more when its time is up
_SHARED = 2 * SMALLEST  # runs of a round at least, where their process begins and ends with an equal pair

Ask = Callable[[], list[Prospect] | None]  # None: the rules could not be asked


class Budget:
    """Deals out the time of a sweep.

    Args:
        ask: what is predicted of each run by now.
        most_s: seconds, from now on.
        clock: in seconds.
    """

    def __init__(self, ask: Ask, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_s, self.clock, self.prospects = most_s, clock, list[Prospect]()
        self._ask, self._began = ask, clock()
        self._asking_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds that are left of it."""
        return self.most_s - (self.clock() - self._began)

    def rounds(self, records: Mapping[int, Record], groups: Sequence[str | None]) -> Iterator[list[int]]:
        """The indexes of the runs to start next, round after round; first those that take no time.

        A run that the sweep holds twice follows its first copy, once that is measured.

        Args:
            records: of the runs that are over, by index; looked at after each round.
            groups: of each run what it may share a process with.
        """
        self._predict()
        for index, each in enumerate(self.prospects):
            if each.skipped and each.copy_of is None:
                yield [index]
        yield from self._copies(records)
        while chosen := self._next(records, groups):
            yield chosen
            yield from self._copies(records)
            if self._is_over(records):
                break
            self._predict()

    def fits(self, indexes: Sequence[int]) -> bool:
        """Whether runs, one after another, still fit in what is left."""
        return sum(self.prospects[index].seconds for index in indexes) <= self.left_s

    def left(self, done: Collection[int]) -> dict[int, Prospect]:
        """What was not measured by its index, the least sure first."""
        rest = [index for index in range(len(self.prospects)) if index not in done]
        return {
            index: self.prospects[index] for index in sorted(rest, key=lambda each: self.prospects[each].sure)
        }

    def _predict(self) -> None:
        began = self.clock()
        self.prospects = self._ask() or self.prospects
        self._asking_s = self.clock() - began
        if not self.prospects:
            raise ConfigError(
                "launch.budget: the rules could not be asked; budget.log in the sweep's folder says why"
            )

    def _copies(self, records: Mapping[int, Record]) -> Iterator[list[int]]:
        """Those whose first copy has a finding by now: it stands for them too."""
        for index, each in enumerate(self.prospects):
            if index not in records and each.copy_of is not None:
                first = records.get(each.copy_of)
                if first is not None and _stands(first):
                    yield [index]

    def _to_come(self, records: Mapping[int, Record]) -> list[int]:
        """What may be measured yet."""
        return [
            index
            for index, each in enumerate(self.prospects)
            if index not in records and each.copy_of is None
        ]

    def _is_over(self, records: Mapping[int, Record]) -> bool:
        """Whether there is nothing to ask for: no run is left, or none fits and asking takes too long."""
        to_come = self._to_come(records)
        asking_fits = self._asking_s <= max(self.left_s, _LAST_ASKING * self.most_s)
        return not to_come or not (asking_fits or any(self.fits([index]) for index in to_come))

    def _next(self, records: Mapping[int, Record], groups: Sequence[str | None]) -> list[int]:
        lessons = [each.lesson(group or "") for each, group in zip(self.prospects, groups, strict=True)]
        to_come = self._to_come(records)
        learned = [lessons[index] for index, record in records.items() if _teaches(record)]
        least_s = _ASKING * self._asking_s
        chosen = next_lessons(
            [lessons[index] for index in to_come], learned, least_s, self.left_s, shared=_SHARED
        )
        return [to_come[index] for index in chosen]


def budget_of(
    configs: Sequence[RootConf], predict: "Predict | None", server: Preloaded, folder: Path
) -> Budget | None:
    """The budget of a sweep that begins now; None: it has none.

    Args:
        server: where the rules are asked, in a process apart: a sweep's own does without torch.
    """
    text = configs[0].launch.budget
    if text is None:
        return None
    assert predict is not None, "a sweep with a budget is given what predicts"
    ask = partial(_asked, server, configs, predict, folder / "budget.log")
    return Budget(ask, seconds(text, "launch.budget"))


def groups_within(
    budget: Budget, records: Mapping[int, Record], shares: Sequence[str | None], progress: SweepProgress
) -> Iterator[list[int]]:
    """The runs that are started, round after round, those together that share a process."""
    for chosen in budget.rounds(records, shares):
        progress.expect([budget.prospects[index].seconds for index in chosen], budget.left_s)
        for number, places in enumerate(brought_together([shares[index] for index in chosen])):
            indexes = [chosen[place] for place in places]
            if number and not budget.fits(indexes):  # those before took longer than was predicted
                break
            yield indexes


def noted(
    budget: Budget,
    configs: Sequence[RootConf],
    records: Mapping[int, Record],
    key: Callable[[int], str],
    folder: Path,
) -> list[str]:
    """Write down what is left to the forecast, and say so.

    Args:
        records: of those that are over, by index.
        key: a run's key, by its index.
    """
    left = budget.left(records)
    labels, keys = {index: label(configs[index]) for index in left}, {index: key(index) for index in left}
    return [*in_words(left, labels, len(configs), write_left(left, labels, keys, folder))]


def _asked(
    server: Preloaded, configs: Sequence[RootConf], predict: "Predict", log: Path
) -> list[Prospect] | None:
    found: list[Prospect] | None = server.run(
        prospects, (configs, predict), log=log, timeout_s=_LONGEST_S
    ).answer
    return found


def _teaches(record: Record) -> bool:
    """Whether it is known by now how fast the run is."""
    return record.outcome is Outcome.OK and not record.details.get("withheld")


def _stands(record: Record) -> bool:
    """Whether the same run again would be passed over."""
    return record.outcome.is_finding and is_settled(record) and not record.details.get("withheld")
