"""The matrix of a sweep: every run with what is predicted of it, and their sums by GPU and by reason."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from src.config.schema.root import RootConf
from src.planning.cards import Card
from src.planning.hours import Estimate
from src.planning.needs.memory import Forecast
from src.planning.parts import added
from src.records.key import axes_of


class Fate(StrEnum):
    """What is predicted of a run."""

    RUN = "will run"
    OOM = "likely oom"  # sent all the same
    TIMEOUT = "likely timeout"  # sent all the same
    UNSUPPORTED = "unsupported"  # sent all the same: recorded with its reason in seconds
    DONE = "done"  # skipped
    UNDER_WAY = "under way"  # skipped: an earlier sweep sent it
    REPEATED = "repeated"  # skipped: the sweep holds it twice

    @property
    def is_skipped(self) -> bool:
        """Whether the run is not sent."""
        return self in (Fate.DONE, Fate.UNDER_WAY, Fate.REPEATED)


Sent = tuple[RootConf, dict[str, Any]]  # a run, and its device
Together = list[list[list[int]]]  # places of runs: by process, and in each by rounds


@dataclass(frozen=True)
class Launch:
    """How the runs would be launched, as far as a plan needs to know; the default is this machine, one by one."""

    at_once: int | None = 1  # runs of one group (a GPU and its request) beside each other; None: all
    elsewhere: bool = False  # on other machines, group beside group: devices are told from conf/gpu
    key: Callable[[RootConf], str] | None = None  # a run's key; None: of the device opened here
    request: Callable[[RootConf], Mapping[str, Any]] | None = None  # of the cluster; None: gpu.slurm
    under_way: Collection[str] = ()  # keys of runs that a cluster has already
    together: Callable[[Sequence[Sent | None]], Together] | None = None  # what share what; None: none do


HERE = Launch()


@dataclass(frozen=True)
class Promise:
    """The speedup that is predicted of a run, or of one layer, from layers that were measured."""

    verdict: str  # or `unknown`
    speedup: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sure: float = 0.0  # probability of the verdict
    reasons: tuple[str, ...] = ()  # of `unknown`; else what to mind
    baseline_ms: float = math.nan  # of an unquantized call, as far as it is predicted

    @property
    def reason(self) -> str:
        """All of them in one line."""
        return "; ".join(self.reasons)

    @property
    def at_most(self) -> float:
        """The speedup, or what it is at most; not a number: unknown."""
        return self.high if math.isnan(self.speedup) else self.speedup


@dataclass(frozen=True)
class PlannedRun:
    """One run of the matrix."""

    axes: dict[str, str]
    group: str  # of runs that share a GPU and a request
    fate: Fate
    estimate: Estimate
    reason: str = ""
    remedy: str = ""
    memory: Forecast | None = None
    promise: Promise | None = None
    repeats: int | None = None  # the place in the sweep of the run that this one is once more

    @property
    def seconds(self) -> float:
        """Wall seconds that it adds to the sweep."""
        return 0.0 if self.fate.is_skipped else self.estimate.told_s


@dataclass(frozen=True)
class Group:
    """Runs that go to one kind of device with one request."""

    name: str
    gpu: str
    card: Card
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """All runs of a sweep, in order."""

    runs: list[PlannedRun]
    groups: list[Group]
    launch: Launch = HERE

    def axes(self) -> dict[str, list[str]]:
        """Each axis with its distinct values, in order."""
        names = dict.fromkeys(name for run in self.runs for name in run.axes)
        return {
            name: list(dict.fromkeys(run.axes[name] for run in self.runs if name in run.axes))
            for name in names
        }

    def of(self, group: Group) -> list[PlannedRun]:
        """The runs of a group."""
        return [run for run in self.runs if run.group == group.name]

    def rows(self, most: int) -> list[tuple[dict[str, str], list[PlannedRun]]]:
        """The runs put together by the leading varying axes, by as many as give no more than `most` rows."""
        varying = [name for name, values in self.axes().items() if len(values) > 1]
        rows: dict[tuple[str, ...], list[PlannedRun]] = {(): list(self.runs)}
        names: list[str] = []
        for count in range(1, len(varying) + 1):
            finer = _by(self.runs, varying[:count])
            if len(finer) > most:
                break
            rows, names = finer, varying[:count]
        return [(dict(zip(names, values, strict=True)), runs) for values, runs in rows.items()]

    def reasons(self) -> list[tuple[Fate, str, str, list[PlannedRun]]]:
        """Fate, reason, remedy, and the runs of which that is said; the commonest first within a fate."""
        said: dict[tuple[Fate, str, str], list[PlannedRun]] = {}
        for run in self.runs:
            if run.fate is not Fate.RUN:
                said.setdefault((run.fate, run.reason, run.remedy), []).append(run)
        order = list(Fate)
        ranked = sorted(said.items(), key=lambda item: (order.index(item[0][0]), -len(item[1])))
        return [(*key, runs) for key, runs in ranked]

    def parts_s(self) -> dict[str, float]:
        """What the time of the runs that are sent goes into, by a key of `PARTS`."""
        sent = (run for run in self.runs if not run.fate.is_skipped)
        return added(run.estimate.parts_s for run in sent if not run.estimate.is_open)

    def wall_s(self) -> float:
        """Seconds from the first start to the last end, if every run starts as soon as the launcher allows it."""
        spans = [_span_s(self.of(group), self.launch.at_once) for group in self.groups]
        return max(spans, default=0.0) if self.launch.elsewhere else sum(spans)


def fates(runs: Iterable[PlannedRun]) -> Counter[Fate]:
    """How many runs meet which fate."""
    return Counter(run.fate for run in runs)


def is_open(runs: Iterable[PlannedRun]) -> bool:
    """Whether some of the runs may take any longer than is known."""
    return any(run.estimate.is_open and not run.fate.is_skipped for run in runs)


def hours(runs: Iterable[PlannedRun]) -> float:
    """Device hours that the runs take together."""
    return sum(run.seconds for run in runs) / 3600


def _span_s(runs: list[PlannedRun], at_once: int | None) -> float:
    """The runs' sum shared by those beside each other, and no less than the longest."""
    longest = max((run.seconds for run in runs), default=0.0)
    return longest if at_once is None else max(longest, sum(run.seconds for run in runs) / at_once)


def _by(runs: Iterable[PlannedRun], names: list[str]) -> dict[tuple[str, ...], list[PlannedRun]]:
    found: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(tuple(run.axes.get(name, "") for name in names), []).append(run)
    return found


_OF_SOME = ("resolution", "frames")  # 0: the model has none


def plan_axes(cfg: RootConf) -> dict[str, str]:
    """What runs of a plan are told apart by: the record's axes, the device first, and a few keys more."""
    dims = {} if cfg.resolution else {f"model.dims.{name}": size for name, size in cfg.model.dims.items()}
    axes = {"gpu": cfg.gpu.name, "model": cfg.model.name, "resolution": cfg.resolution, "frames": cfg.frames}
    axes |= dims
    axes |= {"target": cfg.target, "batch": cfg.batch} | axes_of(cfg) | dims
    axes |= {"layers": cfg.quant.layers.name, "quant.where": cfg.quant.where, "quant.via": cfg.quant.via}
    return {name: str(value) for name, value in axes.items() if name not in _OF_SOME or value}
