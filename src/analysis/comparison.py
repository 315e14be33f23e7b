"""Two sets of runs held against each other cell by cell: what became faster or slower, what broke.

Runs of two sweeps are no pairs: between them lie another process, another day, perhaps another machine. So the
interval of a change holds both sides' own noise and what processes differ by.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from src.analysis.across import lacking
from src.analysis.latencies import Runs, by_key, latency, runs_of
from src.analysis.matching import matched
from src.analysis.runs.facts import VERSIONS
from src.analysis.runs.frame import CELL_OF_ALL, Row, all_compared, standing
from src.analysis.runs.recorded import as_runs
from src.analysis.runs.tracked.source import Runs as Sources
from src.analysis.runs.tracked.source import attempts
from src.config.errors import ConfigError
from src.records.record import RECORD_NAME, Outcome, Record, RecordError, read_record
from src.records.store import MANIFEST_NAME, iter_records, read_manifest, sweep_folder

BROKE, SLOWER, PAYS_LESS = "broke", "slower", "pays less"
MENDED, FASTER, PAYS_MORE = "mended", "faster", "pays more"
SAME, UNDECIDED, NEITHER = "same", "undecided", "runs in neither"
CHANGES = (BROKE, SLOWER, PAYS_LESS, MENDED, FASTER, PAYS_MORE, UNDECIDED, SAME, NEITHER)
WORSE = (BROKE, SLOWER, PAYS_LESS)
_MANNERS = {"cache": "caches were", "pairing": "arms were", "rounds": "speedups come from"}
_AGAINST = {"baseline_dtype": "the fastest unquantized dtype was"}
Times = tuple[Runs, Runs]  # the runs of one cell that its times come from, before and after


@dataclass(frozen=True)
class Change:
    """A ratio after / before (of times: before / after, so that above 1 is better) with its interval."""

    ratio: float
    low: float
    high: float

    def beyond(self, margin: float) -> int:
        """1: all of the interval is above 1 + margin; -1: below its inverse; 0: neither."""
        return int(self.low > 1 + margin) - int(self.high < 1 / (1 + margin))

    def inside(self, margin: float) -> bool:
        """Whether all of the interval is within the margin of 1."""
        return 1 / (1 + margin) <= self.low and self.high <= 1 + margin


@dataclass(frozen=True)
class Compared:
    """One cell of both sides; nothing is said of how a run changed where a side withholds its verdict."""

    what: str  # one of CHANGES
    before: Row
    after: Row
    time: Change | None = None  # of the quantized arm; None: one side has none
    baseline: Change | None = None  # of the unquantized one
    speedup: Change | None = None
    why: str = ""  # what of how the sides were measured keeps them from being compared, or their speedups


@dataclass(frozen=True)
class Side:
    """Runs to compare: a folder of records, or one sweep of a folder."""

    name: str
    records: list[tuple[Record, Path]]
    unreadable: list[str] = field(default_factory=list)  # records, and why

    def versions(self) -> dict[str, str]:
        """What made them, by name; several values one after the other."""
        met: dict[str, dict[str, None]] = {}
        for record, _ in self.records:
            for name in VERSIONS:
                if name in record.environment:
                    met.setdefault(name, {})[str(record.environment[name])] = None
        return {name: ", ".join(values) for name, values in met.items()}


@dataclass(frozen=True)
class Comparison:
    """All cells of two sides, the worst change first, and what only one of them has."""

    cells: list[Compared]
    only_before: pd.DataFrame
    only_after: pd.DataFrame
    left_out: list[str]  # runs that cannot be read, and why

    def counts(self) -> dict[str, int]:
        """How many cells changed in which way, in the order of CHANGES."""
        found = [cell.what for cell in self.cells]
        return {what: found.count(what) for what in CHANGES if what in found}


def side(given: str, outputs: Path, key: str) -> Side:
    """What `before=` or `after=` names.

    Args:
        given: the name of a sweep in `outputs`, or a folder of runs (one that has `runs/`).
        outputs: the folder that a sweep's name is looked up in.
        key: before or after, for the error.

    Raises:
        ConfigError: it is neither, or has no readable records.
    """
    manifest = sweep_folder(outputs, given) / MANIFEST_NAME
    folder = Path(given).expanduser()
    if manifest.is_file():
        found = [*_of_sweep(manifest, outputs)]
    elif (folder / "runs").is_dir():
        found = [*iter_records(folder)]
    else:
        raise ConfigError(
            f"{key}={given}: neither a sweep in {outputs / 'sweeps'} nor a folder that has runs/; "
            "a sweep's name is the id it began with, a folder is an outputs folder or published records, unpacked"
        )
    records = [(record, where) for where, record in found if isinstance(record, Record)]
    unreadable = [str(error) for _, error in found if isinstance(error, RecordError)]
    if not records:
        why = f" ({unreadable[0]})" if unreadable else ""
        raise ConfigError(f"{key}={given}: no readable records there{why}")
    return Side(given, records, unreadable)


def compare(before: Side, after: Side, margin: float, between: float) -> Comparison:
    """Hold the runs of two sides against each other.

    Cells are matched by workload, shape and treatment, and by device where the sides have one in common
    (`src.analysis.matching`).

    Args:
        margin: of a change; 0.02 is 2 %.
        between: relative standard deviation between processes, where a side has one process and nothing else tells.
    """
    names = ("before", "after")
    read = [as_runs(s.records, side=name) for name, s in zip(names, (before, after), strict=True)]
    found = attempts(Sources([run for runs, _ in read for run in runs]))
    frame = all_compared(found, margin)
    sides = [frame[frame["run_key"].str.startswith(f"{name}/")].copy() for name in names]
    for each in sides:
        each["stands"] = ~each.sort_values(["finding", "started_at"], ascending=False).duplicated(CELL_OF_ALL)
    first, second = (standing(each) for each in sides)
    pairs = matched(first, second, dict(zip(found["run_key"], found["options"], strict=True)))
    measured = by_key(before.records), by_key(after.records)
    cells = []
    for a, b in pairs:
        one, other = first.iloc[a], second.iloc[b]
        times = runs_of(one, measured[0]), runs_of(other, measured[1])
        cells.append(_cell(one, other, times, margin, between))
    cells.sort(key=lambda cell: CHANGES.index(cell.what))
    alone = first.drop([a for a, _ in pairs]), second.drop([b for _, b in pairs])
    left_out = [*before.unreadable, *after.unreadable, *(line for _, lines in read for line in lines)]
    return Comparison(cells, *alone, left_out)


def _of_sweep(manifest: Path, outputs: Path) -> Iterator[tuple[Path, Record | RecordError]]:
    try:
        folders = read_manifest(manifest).folders(outputs)
    except RecordError as error:
        raise ConfigError(str(error)) from error
    for folder in folders:
        if (folder / RECORD_NAME).exists():
            try:
                yield folder, read_record(folder / RECORD_NAME)
            except RecordError as error:
                yield folder, error


def _cell(before: Row, after: Row, times: Times, margin: float, between: float) -> Compared:
    runs = [row["outcome"] == Outcome.OK for row in (before, after)]
    if not all(runs):
        what = NEITHER if not any(runs) else BROKE if runs[0] else MENDED
        return Compared(what, before, after)
    if before["withheld"] or after["withheld"]:
        return Compared(UNDECIDED, before, after)
    if why := _unlike(before, after, _MANNERS):
        return Compared(UNDECIDED, before, after, why=why)
    confidence = float(after["confidence"])
    time, baseline = (_time(times, arm, between, confidence) for arm in ("", "baseline_"))
    speedup = _speedup(before, after, between, confidence)
    if why := _unlike(before, after, _AGAINST):
        what = _what(time, None, margin)
        return Compared(UNDECIDED if what == SAME else what, before, after, time, why=why)
    return Compared(_what(time, speedup, margin), before, after, time, baseline, speedup)


def _unlike(before: Row, after: Row, names: Mapping[str, str]) -> str:
    """In what the sides were not measured alike, as far as both say it."""
    told = (
        f"{words} {before[name]} before, {after[name]} after"
        for name, words in names.items()
        if before[name] and after[name] and before[name] != after[name]
    )
    return "; ".join(told)


def _what(time: Change | None, speedup: Change | None, margin: float) -> str:
    """The time of the quantized arm first: it is what a user waits for."""
    if time is not None and (sign := time.beyond(margin)):
        return FASTER if sign > 0 else SLOWER
    if speedup is not None and (sign := speedup.beyond(margin)):
        return PAYS_MORE if sign > 0 else PAYS_LESS
    told = [change for change in (time, speedup) if change is not None]
    return SAME if told and all(change.inside(margin) for change in told) else UNDECIDED


def _time(times: Times, arm: str, between: float, confidence: float) -> Change | None:
    """How many times faster an arm became."""
    before, after = (latency(runs, arm, between, confidence) for runs in times)
    return _change(before.ms / after.ms, [before.half, after.half]) if before and after else None


def _speedup(before: Row, after: Row, between: float, confidence: float) -> Change | None:
    """How many times larger it became; `between` is added where an interval lacks what processes differ by."""
    halves = []
    for row in (before, after):
        if not row["verdict"]:
            return None
        halves.append(math.log(row["speedup/ci_high"] / row["speedup/ci_low"]) / 2)
        halves.append(float(lacking(row, confidence, between)))
    return _change(after["speedup/ratio"] / before["speedup/ratio"], halves)


def _change(ratio: float, halves: Sequence[float]) -> Change:
    """A ratio whose logarithm has independent errors, with these half widths of their intervals."""
    half = math.hypot(*halves)
    return Change(ratio, ratio * math.exp(-half), ratio * math.exp(half))
