"""Ladders: what each step gives against the one before, and all of them together against the first baseline."""

import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import pandas as pd

from src.analysis.across import ends
from src.analysis.runs.frame import MODEL, WORKLOAD, Row
from src.analysis.runs.tracked.source import BESIDES, NO_STEP
from src.analysis.runs.tracked.variants import differing, variants
from src.analysis.runs.typed import ASKED
from src.records.record import Outcome

NONE = "none"  # of quant and compile, before their step
_PARTS = ("ratio", "ci_low", "ci_high")


@dataclass(frozen=True)
class Estimate:
    """A speedup and its interval."""

    ratio: float = 1.0
    low: float = 1.0
    high: float = 1.0

    def times(self, other: "Estimate") -> "Estimate":
        """Of two speedups measured apart that of both: their logarithms' errors are independent."""
        ratio = self.ratio * other.ratio
        below = math.hypot(*(math.log(each.ratio / each.low) for each in (self, other)))
        above = math.hypot(*(math.log(each.high / each.ratio) for each in (self, other)))
        return Estimate(ratio, ratio * math.exp(-below), ratio * math.exp(above))


@dataclass(frozen=True)
class Step:
    """One step: its run, if there is one, and where it leads."""

    name: str
    row: Row | None  # None: it has not been run
    own: Estimate | None  # against the step before; None: no speedup, or one that a busy machine put in doubt
    total: (
        Estimate | None
    )  # of all steps so far; None: one of them has no speedup, and the later ones contain it
    missing: str = ""  # which one that is

    @property
    def verdict(self) -> str:
        """Its verdict, else its outcome."""
        return "not run" if self.row is None else str(self.row["verdict"] or self.row["outcome"])

    @property
    def reason(self) -> str:
        """Why it has no speedup; or what its run says."""
        if self.row is None:
            return "no run of it was found"
        parts = [self.row["reason"], self.row["remedy"] if self.own is None else ""]
        return " → ".join(str(part) for part in parts if part and not pd.isna(part))


@dataclass(frozen=True)
class Ladder:
    """The steps of one workload on one device, in their order."""

    first: Row  # any of its runs, for its names
    quant: str
    compile: str
    steps: list[Step] = field(default_factory=list)
    variant: str = ""  # what tells it from others of the same scheme and mode: ``group_size=32``

    @property
    def reached(self) -> Step | None:
        """The last step that is known to be so many times as fast as the start."""
        return next((step for step in self.steps[::-1] if step.own and step.total), None)

    @property
    def total(self) -> Estimate | None:
        """What all steps give together; None where that is not known."""
        return self.steps[-1].total

    @property
    def eager_ms(self) -> float:
        """A call before the first step, ms."""
        rows = [step.row for step in self.steps if step.row is not None and step.own and step.total]
        return float(rows[0]["latency/baseline_median_ms"]) if rows else math.nan


def ladders(rows: pd.DataFrame) -> list[Ladder]:
    """A ladder per device, workload, order of steps, scheme, its variant and compile mode; `rows` are of `steps_of`.

    Runs before the step that quantizes, or compiles, belong to the ladders of every scheme, or mode; so do those
    before the first step that was run in several variants.
    """
    on_steps = rows[~rows["step"].isin(["", NO_STEP])]
    if on_steps.empty:
        return []
    on_steps = on_steps.assign(_mode=[text.partition(BESIDES)[0] for text in on_steps["compile"]])
    same = on_steps.groupby([*WORKLOAD, MODEL, "steps"], dropna=False)["device"]
    on_steps["device"] = same.transform(_of_one_device)
    keys = ["device", *WORKLOAD, MODEL, "steps"]
    groups = on_steps.groupby(keys, dropna=False, sort=False)
    return [ladder for _, part in groups for ladder in _ladders(part)]


def others(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs with another treatment than quantizing that are on no ladder."""
    return rows[rows["step"].isin(["", NO_STEP])].reset_index(drop=True)


def _of_one_device(devices: "pd.Series[str]") -> "pd.Series[str]":
    """A step that ended before its device was known was asked of the one that the others ran on, if that is one."""
    known = [name for name in dict.fromkeys(devices) if not name.startswith(ASKED)]
    return devices.where(devices.isin(known), known[0]) if len(known) == 1 else devices


def _ladders(part: pd.DataFrame) -> Iterator[Ladder]:
    names = json.loads(part.iloc[0]["steps"])
    for quant in _kinds(part["quant"]):
        for mode in _kinds(part["_mode"]):
            both = part[part["quant"].isin([quant, NONE]) & part["_mode"].isin([mode, NONE])]
            for variant, own in _variants(both[both["step"].isin(names)], names):
                steps = [*_steps(own.sort_values("started_at"), names)]
                yield Ladder(own.iloc[0], quant, mode, steps, variant)


def _variants(rows: pd.DataFrame, names: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each ladder: options that differ within a step tell them apart from that step on."""
    params: dict[Hashable, dict[str, str]] = {
        index: json.loads(text) for index, text in rows["options"].items()
    }
    since: dict[str, int] = {}
    for at, name in enumerate(names):
        for option in differing([params[index] for index in rows.index[rows["step"] == name]]):
            since.setdefault(option, at)
    places = rows["step"].map(names.index)
    own = {  # an option that does not tell yet is None
        index: [params[index].get(name, "") if places[index] >= at else None for name, at in since.items()]
        for index in rows.index
    }
    kinds = {tuple(map(str, each)): index for index, each in own.items() if None not in each}
    told = variants([{"params": params[index]} for index in kinds.values()], [])
    for kind, variant in zip(kinds, told, strict=True):
        fits = [all(a in (None, b) for a, b in zip(each, kind, strict=True)) for each in own.values()]
        yield variant if len(kinds) > 1 else "", rows[fits]


def _kinds(column: "pd.Series[str]") -> list[str]:
    return [name for name in dict.fromkeys(column) if name != NONE] or [NONE]


def _steps(rows: pd.DataFrame, names: list[str]) -> Iterator[Step]:
    """In their order. Later steps do without what device or model cannot have; all else is in both their arms."""
    total, missing = Estimate(), ""
    for name in names:
        found = rows[rows["step"] == name]
        row = found.iloc[-1] if len(found) else None
        own = None if row is None else _speedup(row)
        total = total.times(_of_any_process(row)) if own and row is not None else total
        left_out = row is not None and row["outcome"] == Outcome.UNSUPPORTED
        missing = missing or ("" if own or left_out else name)
        yield Step(name, row, own, None if missing else total, missing)


def _of_any_process(row: Row) -> Estimate:
    """A step's speedup with what processes differ by, as the other steps were measured in others.

    Their differences are independent: over k steps of one process each they grow with the square root of k.
    """
    return Estimate(float(row["speedup/ratio"]), *map(float, ends(row)))


def _speedup(row: Row) -> Estimate | None:
    told = row["verdict"] and not row["withheld"]
    return Estimate(*(row[f"speedup/{part}"] for part in _PARTS)) if told else None
