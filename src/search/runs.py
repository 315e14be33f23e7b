"""From a run's folder to what a search is told, and what a search keeps on disk."""

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.records.pooled import ERROR, ESTIMATE, POOLED_ERROR
from src.records.record import RECORD_NAME, Outcome, Record, RecordError, read_record, write_json
from src.search.axis import Point
from src.search.found import BreakEven, break_evens, in_words
from src.search.search import Asked, Search
from src.statistics.speedup import Verdict

FOLDER = "searches"  # of `outputs`
STATE_NAME, TABLE_NAME = "search.json", "breakeven.csv"
_COLUMNS = (
    *("direction", "m", "m_low", "m_high", "straight_low", "straight_high"),
    *("last", "last_verdict", "first", "first_verdict"),
)
_ASIDE = re.compile(r"(outputs|tracking|plan|rerun|launch)\b")  # overrides that ask no other question


def point(value: int, folder: Path | None, confidence: float = 0.95) -> Point | None:
    """What a run found at a value of the axis, with an interval of a confidence; None: it has no record yet."""
    if folder is None or not (folder / RECORD_NAME).exists():
        return None
    try:
        record = read_record(folder / RECORD_NAME)
    except RecordError as error:
        return Point(value, why=str(error))
    return point_of(value, record, confidence)


def point_of(value: int, record: Record, confidence: float = 0.95) -> Point:
    """The same of a record; one without a speedup of its own kernels, or disturbed, says why."""
    numbers = [record.metrics.get(name) for name in ESTIMATE]
    told = record.verdict in set(Verdict) and not record.details.get("withheld")
    if record.outcome is Outcome.OK and told and None not in numbers:
        ratio, low, high = (float(number) for number in numbers if number is not None)
        error = record.metrics.get(POOLED_ERROR, record.metrics.get(ERROR, math.nan))
        return Point(value, ratio, low, high, str(record.verdict), error=error, confidence=confidence)
    said = f"{record.outcome}, {record.verdict}" if record.verdict else str(record.outcome)
    return Point(value, why=": ".join(filter(None, [said, record.reason])))


class Notes:
    """A search's folder: what it asked, so that the same command goes on, and what it found.

    Args:
        combinations: the overrides of each.
        apart: what tells each from the others, by key.
        devices: the names of those that they run on: machines that share `outputs` do not go on with one search.
    """

    def __init__(
        self,
        outputs: Path,
        axis: str,
        values: Sequence[int],
        combinations: Sequence[Sequence[str]],
        apart: Sequence[Mapping[str, str]],
        devices: Sequence[str],
    ) -> None:
        self.axis, self.name, self.values, self.apart = (
            axis,
            axis.rpartition(".")[2],
            list(values),
            list(apart),
        )
        counting = [[each for each in job if not _ASIDE.match(each)] for job in combinations]
        question = json.dumps([axis, self.values, counting, list(devices)])
        self.folder = outputs / FOLDER / hashlib.sha256(question.encode()).hexdigest()[:12]

    def asked(self) -> list[Asked]:
        """What an earlier process asked for; nothing where there was none, or its notes cannot be read."""
        try:
            kept = json.loads((self.folder / STATE_NAME).read_text(encoding="utf-8"))["asked"]
            return [(int(number), self.values.index(int(value))) for number, value in kept]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    @property
    def table(self) -> Path:
        """Where `breakeven.csv` lies."""
        return self.folder / TABLE_NAME

    def write(self, search: Search) -> None:
        """Note what was asked, and what has come out so far."""
        state: dict[str, Any] = {
            "axis": self.axis,
            "values": self.values,
            "runs_at_most": search.most,
            "asked": [(number, self.values[index]) for number, index in search.asked],
            "combinations": [
                {
                    "apart": dict(apart),
                    "says": in_words(each, self.name),
                    "points": [_plain(each.points[index]) for index in sorted(each.points)],
                }
                for apart, each in zip(self.apart, search.searches, strict=True)
            ],
        }
        write_json(self.folder / STATE_NAME, state)

    def write_table(self, search: Search) -> None:
        """`breakeven.csv`: a row per crossing, and one for each combination without any."""
        with self.table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["axis", "combination", "runs", *_COLUMNS, "undecided", "narrowed", "says"])
            for apart, each in zip(self.apart, search.searches, strict=True):
                called = " ".join(f"{key}={value}" for key, value in apart.items())
                common = [self.axis, called, len(each.points)]
                found = break_evens(each)
                for crossing in found:
                    writer.writerow([*common, *_row(crossing), crossing.text(self.name)])
                if not found:
                    writer.writerow([*common, *[""] * (len(_COLUMNS) + 2), *in_words(each, self.name)])


def _row(found: BreakEven) -> list[object]:
    at = found.at
    where = [at.m, at.low, at.high, at.straight_low, at.straight_high] if at else [""] * 5
    sides = [found.last.value, found.last.verdict, found.first.value, found.first.verdict]
    return [str(found.direction), *where, *sides, found.undecided, found.narrowed]


def _plain(told: Point) -> dict[str, Any]:
    if not told.measured:
        return {"value": told.value, "why": told.why}
    return {name: each for name, each in asdict(told).items() if each == each}  # no nan: JSON has none
