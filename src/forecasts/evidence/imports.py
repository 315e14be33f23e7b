"""`import=FILE.csv`: what others measured, as cells of single layers and as speedups of whole models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from src.forecasts.evidence.cells import cells
from src.forecasts.evidence.csv_rows import RefusedError, Row, Table, read_table
from src.forecasts.evidence.model_rows import COLUMNS as MODEL_COLUMNS
from src.forecasts.evidence.model_rows import model_rows

SHAPE_NEEDS = ("device", "M", "K", "N", "quant", "speedup")
MODEL_NEEDS = ("source", "hardware", "model", "quant", "time_s")
COMPILE, DTYPE = "default", "bfloat16"  # of a row that does not say
_WIDEST = 1e4  # what a speedup, or its inverse, may be
_LOW, _HIGH = ("low", "speedup_low", "ci_low"), ("high", "speedup_high", "ci_high")
_TIMES = ("baseline_ms", "treated_ms")
_APART = 0.25  # of logarithms: as far from a speedup the ratio of its times may be, which are medians
_SHAPE_READS = [*SHAPE_NEEDS, "compile", "dtype", *_LOW, *_HIGH, *_TIMES]
_NAMES = Path(__file__).with_name("names.yaml")


@dataclass(frozen=True)
class Imported:
    """What the files gave: `cells` of layers, `models` with their speedups, and a sentence per row not taken."""

    cells: pd.DataFrame
    models: pd.DataFrame
    refused: list[str]

    @property
    def sources(self) -> list[str]:
        """The files that gave anything."""
        return list(dict.fromkeys([*self.cells["source"], *self.models["file"]]))


def read_imports(paths: Sequence[str], aliases: Mapping[str, str]) -> Imported:
    """Read every file; wrong rows are refused one by one, the rest is taken.

    Args:
        paths: CSV files of shapes (columns SHAPE_NEEDS, optional compile, dtype, low, high, baseline_ms, treated_ms)
            or of models (MODEL_NEEDS; times are made speedups by `model_rows`).
        aliases: other names of schemes -> this program's, beside those of names.yaml.

    Raises:
        ConfigError: a file cannot be read.
    """
    names = field_names() | dict(aliases)
    shapes: list[dict[str, object]] = []
    models: list[dict[str, object]] = []
    refused: list[str] = []
    for path in map(Path, dict.fromkeys(paths)):
        table = read_table(path, "import")
        if set(SHAPE_NEEDS) <= set(table.columns):
            told = [*table.not_read(_SHAPE_READS, all_of_them=False), *table.refused, *table.without_unit()]
            refused += [*told, *_take(table, shapes, names)]
        elif set(MODEL_NEEDS) <= set(table.columns):
            taken, wrong = model_rows(table, names)
            models += taken
            refused += [*table.refused, *wrong]
        else:
            refused.append(_unknown_columns(table))
    return Imported(cells(shapes), pd.DataFrame(models, columns=MODEL_COLUMNS), refused)


@cache
def field_names() -> dict[str, str]:
    """What the field calls schemes -> what they are called here."""
    listed: dict[str, list[str]] = yaml.safe_load(_NAMES.read_text(encoding="utf-8"))
    return {other: name for name, others in listed.items() for other in others}


def _take(table: Table, shapes: list[dict[str, object]], names: Mapping[str, str]) -> list[str]:
    """Add the rows that are sound; returns a sentence for each other."""
    refused = []
    for row in table.rows:
        try:
            shapes.append(_cell(row, names) | {"source": table.path.name})
        except RefusedError as reason:
            refused.append(table.told(row.line, reason))
    return refused


def _cell(row: Row, names: Mapping[str, str]) -> dict[str, object]:
    quant = row.text("quant")
    if names.get(quant, quant) == "none":
        raise RefusedError(f"quant={quant}: unquantized; its speedup says nothing of a scheme")
    speedup = row.number("speedup", 1 / _WIDEST, _WIDEST)
    low, high = (_first(row, given) for given in (_LOW, _HIGH))
    if low > speedup or high < speedup:
        raise RefusedError(f"speedup={speedup:g} lies outside of its interval {low:g}-{high:g}")
    baseline_ms, treated_ms = (row.optional(name) for name in _TIMES)
    if abs(math.log(speedup * treated_ms / baseline_ms)) > _APART:
        raise RefusedError(
            f"speedup={speedup:g}, but baseline_ms / treated_ms is {baseline_ms / treated_ms:.3g}"
        )
    return row.shape() | {
        "device": row.text("device"),
        "compile": row.text("compile", COMPILE),
        "dtype": row.text("dtype", DTYPE),
        "quant": names.get(quant, quant),
        "speedup": speedup,
        "low": low,
        "high": high,
        "baseline_ms": baseline_ms,
        "treated_ms": treated_ms,
    }


def _first(row: Row, given: Sequence[str]) -> float:
    """The number under the first of these names that the row has; nan without any."""
    return row.optional(next((name for name in given if name in row.values), given[0]))


def _unknown_columns(table: Table) -> str:
    kinds = {"shapes": SHAPE_NEEDS, "models": MODEL_NEEDS}
    lacks = {kind: [n for n in needs if n not in table.columns] for kind, needs in kinds.items()}
    nearest = min(lacks, key=lambda kind: len(lacks[kind]))
    other = next(kind for kind in kinds if kind != nearest)
    reason = f"column {', '.join(lacks[nearest])} is missing for {nearest} (for {other}: {', '.join(lacks[other])})"
    return table.told(1, f"{reason}; nothing of this file is taken")
