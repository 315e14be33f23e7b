"""Rows of a CSV file that somebody else wrote: each told by its line, the wrong ones refused with the reason."""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.config.errors import ConfigError

MOST_ROWS, MOST_SIDE = 10**8, 10**6  # what a shape's M, and its K and N, may be
_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")
_TIMES = ("time", "baseline", "treated", "latency", "median")  # columns that mean nothing without a unit
_OTHERWISE = {"gpu": "device", "hardware": "device", "card": "device", "mode": "compile", "scheme": "quant"}


class RefusedError(ValueError):
    """A row that cannot be taken; the message says which value and why."""


@dataclass(frozen=True)
class Row:
    """One row: the number of its line in the file, its values as text."""

    line: int
    values: dict[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """A value; where it is empty the default, and without one the row is refused."""
        found = self.values.get(name, "").strip()
        if found or default is not None:
            return found or str(default)
        raise RefusedError(f"{name} is empty")

    def number(self, name: str, low: float = 0.0, high: float = math.inf) -> float:
        """A finite number above `low` and up to `high`."""
        text = self.text(name)
        if _DECIMAL_COMMA.fullmatch(text):
            raise RefusedError(f"{name}={text}: a comma as decimal; write {text.strip().replace(',', '.')}")
        try:
            value = float(text)
        except ValueError:
            raise RefusedError(f"{name}={text}: not a number") from None
        if not math.isfinite(value) or not low < value <= high:
            limit = f"above {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
            raise RefusedError(f"{name}={text}: must be {limit}")
        return value

    def whole(self, name: str, high: int) -> int:
        """A whole number from 1 to `high`."""
        if _THOUSANDS.fullmatch(text := self.text(name)):
            raise RefusedError(f"{name}={text}: a comma among the digits; write {text.replace(',', '')}")
        value = self.number(name, 0.0, high)
        if value != int(value):
            raise RefusedError(f"{name}={self.text(name)}: must be a whole number from 1 to {high:,}")
        return int(value)

    def optional(self, name: str) -> float:
        """A number above 0, or nan where the row has none."""
        return self.number(name) if self.values.get(name, "").strip() else math.nan

    def shape(self) -> dict[str, int]:
        """M, K and N."""
        most = {"M": MOST_ROWS, "K": MOST_SIDE, "N": MOST_SIDE}
        return {name: self.whole(name, high) for name, high in most.items()}


@dataclass(frozen=True)
class Table:
    """A CSV file that could be read: its columns and rows; `refused` are rows with too few or too many values."""

    path: Path
    columns: list[str]
    rows: list[Row]
    refused: list[str]

    def told(self, line: int, reason: object) -> str:
        """A sentence on one of its lines."""
        return f"{self.path}, line {line}: {reason}"

    def not_read(self, read: Sequence[str], all_of_them: bool) -> Iterator[str]:
        """A sentence for each column that is not read; if not for all, for those that are nearly one of `read`."""
        absent = {name.lower(): name for name in read if name not in self.columns}
        for name in (each for each in self.columns if each and each not in read):
            meant = absent.get(_OTHERWISE.get(name.lower(), name.lower()), "")
            if all_of_them or meant:
                yield self.told(
                    1, f"column {name} is not read" + (f"; did you mean {meant}?" if meant else "")
                )

    def without_unit(self) -> Iterator[str]:
        """A sentence for each column of times that names no unit: it is not read."""
        for name in self.columns:
            if name.lower() in _TIMES:
                yield self.told(1, f"column {name} has no unit and is left out; {name}_ms is read")


def read_table(path: Path, key: str) -> Table:
    """A CSV file's rows.

    Args:
        path: of the file, UTF-8.
        key: of the configuration, that named it.

    Raises:
        ConfigError: it is not there, not text, has no head, or one that names a column twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=False)
            lines = [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else "not a CSV file in UTF-8"
        raise ConfigError(f"{key}={path}: cannot be read ({why})") from error
    if not lines:
        raise ConfigError(f"{key}={path}: is empty; the first line must name the columns")
    columns = [name.strip() for name in lines[0][1]]
    if len(columns) == 1 and ";" in columns[0]:
        raise ConfigError(f"{key}={path}: is separated by semicolons; commas are wanted")
    if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
        raise ConfigError(f"{key}={path}: column {', '.join(twice)} is there twice")
    table = Table(path, columns, [], [])
    for line, values in lines[1:]:
        if len(values) == len(columns):
            table.rows.append(Row(line, dict(zip(columns, values, strict=True))))
        else:
            hint = "; a comma in a number?" if len(values) > len(columns) else ""
            table.refused.append(table.told(line, f"{len(values)} values for {len(columns)} columns{hint}"))
    return table
