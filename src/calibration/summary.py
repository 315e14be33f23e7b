"""From experiments to what they say of the instrument: rates, biases, and the requirements that it must meet."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

import numpy as np
from scipy import stats

from src.calibration.experiments.plan import Experiment, Kind
from src.calibration.intervals import Mean, Rate, mean, mean_text, percent, rate, rate_text
from src.config.schema.measure import MeasureConf
from src.statistics.speedup import Verdict
from src.statistics.stopping import StopReason

MOST_FALSE = 0.05  # of A/A pairs
LEAST_FOUND = 0.95  # of slowdowns that are clear of the margin
CLEAR = 1.5  # times the margin: from here on a slowdown must be found
MOST_BIAS = 0.005  # of the harness, relative
LEAST_EXPERIMENTS = 20  # for a rate of 5 %: of fewer, it is less than one
IMPROBABLE = 0.01  # chance, at the limit, of what few experiments show


class Status(StrEnum):
    """What became of a requirement, or of all of them together."""

    MET = "met"
    NOT_MET = "not met"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Requirement:
    """One thing that the instrument must do."""

    name: str  # for metrics and tags
    text: str
    limit: str
    measured: str
    status: Status


@dataclass(frozen=True)
class Group:
    """The counted comparisons of one kind."""

    slowdown: float  # 0: A/A
    n: int
    verdicts: dict[str, int]
    truth: float  # median
    hurts: Rate
    coverage: Rate  # of the truth by the intervals
    bias: Mean | None  # of the estimate against the truth, relative
    spread: float | None  # standard deviation of estimate / truth, relative


@dataclass(frozen=True)
class Preset:
    """What a comparison with these settings costs and resolves here."""

    name: str
    seconds_median: float
    seconds_max: float
    narrow: Rate  # ended since the interval was narrow
    budget: Rate  # ended since the budget was spent
    half_width_median: float  # of the interval, relative
    half_width_p90: float
    smallest_found: float | None  # from here on all are found in 95 % of experiments; None: not shown


@dataclass(frozen=True)
class Summary:
    """What a calibration says."""

    status: Status
    requirements: list[Requirement]
    groups: list[Group]
    false_rate: Rate
    harness: Mean | None  # rounds of the harness against a bare loop, relative difference
    beside: Mean | None  # the same with a copy in the other arm
    built_second: Mean | None  # how much faster the copy built second is, relative
    second_arm: Mean | None  # how much faster the treated arm is than the baseline arm, whichever copy it is
    timer_ns: dict[str, float]
    preset: Preset | None
    experiments: int  # that count
    crowded: int  # that do not
    trouble: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Requirement]:
        """The requirements that are not met."""
        return [requirement for requirement in self.requirements if requirement.status is Status.NOT_MET]


def summarize(
    experiments: Sequence[Experiment],
    conf: MeasureConf,
    timers: Sequence[dict[str, float]] = (),
    trouble: Sequence[str] = (),
) -> Summary:
    """What the experiments say together.

    Args:
        experiments: all that were made; crowded ones do not count.
        conf: the preset that was used; its margin says which slowdowns must be found.
        timers: `timer_cost` of each process; the median is kept.
        trouble: what ended processes early, a line each.
    """
    counted = [each for each in experiments if not each.crowded]
    pairs = [each for each in counted if each.speedup is not None]
    slowdowns = sorted({each.slowdown for each in pairs})
    groups = [_group(slowdown, [e for e in pairs if e.slowdown == slowdown]) for slowdown in slowdowns]
    aa = [each for each in pairs if each.kind is Kind.AA]
    false = rate(each.verdict in (Verdict.HELPS, Verdict.HURTS) for each in aa)
    harness, beside = (_loop_bias(counted, kind) for kind in (Kind.HARNESS, Kind.BESIDE))
    requirements = _requirements(groups, false, harness, conf.margin)
    names = timers[0] if timers else {}
    return Summary(
        status=together([each.status for each in requirements]),
        requirements=requirements, groups=groups, false_rate=false, harness=harness, beside=beside,
        built_second=_of_processes(aa, _half_difference),
        second_arm=_of_processes(aa, _half_sum),
        timer_ns={name: statistics.median(timer[name] for timer in timers) for name in names},
        preset=_preset(pairs, groups, conf), experiments=len(counted),
        crowded=len(experiments) - len(counted), trouble=list(trouble),
    )  # fmt: skip


def together(statuses: Iterable[Status]) -> Status:
    """Met when all are; not met when one is not; else undecided."""
    found = list(statuses)
    if Status.NOT_MET in found:
        return Status.NOT_MET
    return Status.UNDECIDED if Status.UNDECIDED in found or not found else Status.MET


def _requirements(
    groups: Sequence[Group], false: Rate, harness: Mean | None, margin: float
) -> list[Requirement]:
    text, limit = "Two equal copies: no helps or hurts", f"at most {percent(MOST_FALSE)}"
    found = [Requirement("aa_false_rate", text, limit, rate_text(false), _judged(false, at_most=MOST_FALSE))]
    limit = f"at least {percent(LEAST_FOUND)}"
    for group in groups:
        if group.slowdown and group.slowdown > CLEAR * margin * (1 - 1e-9):
            name, text = found_rate(group.slowdown), f"A slowdown of {percent(group.slowdown)} is found"
            status = _judged(group.hurts, at_least=LEAST_FOUND)
            found.append(Requirement(name, text, limit, rate_text(group.hurts), status))
    inside = Status.UNDECIDED
    if harness is not None and max(-harness.low, harness.high) < MOST_BIAS:
        inside = Status.MET
    elif harness is not None and (harness.low > MOST_BIAS or harness.high < -MOST_BIAS):
        inside = Status.NOT_MET
    text = "Rounds last as long as those of a bare loop"
    return [
        *found,
        Requirement("harness_bias", text, f"within ±{percent(MOST_BIAS)}", mean_text(harness), inside),
    ]


def _judged(found: Rate, at_most: float = 1.0, at_least: float = 0.0) -> Status:
    """By the rate itself where there are enough; of few, only what the limit makes improbable is not met."""
    if found.of >= LEAST_EXPERIMENTS:
        return Status.MET if at_least <= found.value <= at_most else Status.NOT_MET
    if not found.of:
        return Status.UNDECIDED
    side, limit = ("less", at_least) if at_least else ("greater", at_most)
    chance = stats.binomtest(found.hits, found.of, limit, alternative=side).pvalue
    return Status.NOT_MET if chance < IMPROBABLE else Status.UNDECIDED


def _group(slowdown: float, members: list[Experiment]) -> Group:
    off = [_log_error(each) for each in members]
    return Group(
        slowdown=slowdown,
        n=len(members),
        verdicts={str(v): sum(each.verdict == v for each in members) for v in Verdict},
        truth=statistics.median(each.truth or 1.0 for each in members),
        hurts=rate(each.verdict == Verdict.HURTS for each in members),
        coverage=rate((e.ci_low or 0) <= (e.truth or 1) <= (e.ci_high or 0) for e in members),
        bias=_of_processes(members, lambda group: statistics.fmean(_log_error(each) for each in group)),
        spread=statistics.stdev(off) if len(off) > 1 else None,
    )


def _preset(pairs: Sequence[Experiment], groups: Sequence[Group], conf: MeasureConf) -> Preset | None:
    if not pairs:
        return None
    halves = [((e.ci_high or 0) - (e.ci_low or 0)) / 2 / (e.speedup or 1) for e in pairs]
    smallest = None
    for group in reversed([group for group in groups if group.slowdown]):
        if group.hurts.value < LEAST_FOUND or group.n < LEAST_EXPERIMENTS:
            break
        smallest = group.slowdown
    return Preset(
        name=conf.name,
        seconds_median=statistics.median(each.seconds for each in pairs),
        seconds_max=max(each.seconds for each in pairs),
        narrow=rate(each.stop_reason == StopReason.NARROW for each in pairs),
        budget=rate(each.stop_reason == StopReason.BUDGET for each in pairs),
        half_width_median=statistics.median(halves),
        half_width_p90=float(np.percentile(halves, 90)),
        smallest_found=smallest,
    )


def _loop_bias(counted: Sequence[Experiment], kind: Kind) -> Mean | None:
    members = [each for each in counted if each.kind is kind]
    return _of_processes(
        members, lambda group: statistics.fmean(math.log(ratio) for each in group for ratio in each.ratios)
    )


def _log_error(each: Experiment) -> float:
    """Estimate against truth, in log: relative for small differences."""
    return math.log((each.speedup or 1.0) / (each.truth or 1.0))


def _half_sum(group: Sequence[Experiment]) -> float | None:
    """Of a process' comparisons: what both ways round have in common; None where it has only one."""
    sides = _sides(group)
    return None if sides is None else (sides[0] + sides[1]) / 2


def _half_difference(group: Sequence[Experiment]) -> float | None:
    """Of a process' comparisons: what changes sign with the copies' roles; None where it has only one."""
    sides = _sides(group)
    return None if sides is None else (sides[0] - sides[1]) / 2


def _sides(group: Sequence[Experiment]) -> tuple[float, float] | None:
    """Mean log errors with the baseline built first, and with the baseline built second."""
    plain, swapped = ([_log_error(e) for e in group if e.swapped is side] for side in (False, True))
    return (statistics.fmean(plain), statistics.fmean(swapped)) if plain and swapped else None


def _of_processes(
    members: Sequence[Experiment], value: Callable[[list[Experiment]], float | None]
) -> Mean | None:
    """The mean of one value per process; a process that has none is left out."""
    by_process = groupby(sorted(members, key=lambda each: each.process), key=lambda each: each.process)
    values = [value(list(group)) for _, group in by_process]
    return mean([each for each in values if each is not None])


def found_rate(slowdown: float) -> str:
    """The name of a slowdown's rate in metrics: found_rate_3pct."""
    return f"found_rate_{100 * slowdown:.4g}pct"
