"""Runs that a budget left to the forecast, shown as predicted and never as measured."""

from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

from src.config.lines import runs_in_words
from src.planning.prospects import UNKNOWN
from src.planning.teaching import SURE, sure_text
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.runs.sections import section

_MOST_SHOWN = 200


def left_section(rows: pd.DataFrame) -> str:
    """The list as a section of the report, the least sure first."""
    note = (
        "Runs that launch.budget left to the forecast. None of this was measured, and none of it is in any other "
        "table or figure; intervals hold 90 %. All of it is in left.csv."
    )
    heads = ["Run", "Predicted", "Speedup", "Sure", "What to mind"]
    cells = [
        [
            text_cell(row["run"]),
            Cell(chip(row["verdict"]), row["verdict"]),
            Cell(_speedup(row), row["speedup"] if pd.notna(row["speedup"]) else None, number=True),
            number_cell("" if row["verdict"] == UNKNOWN else sure_text(row["sure"]), row["sure"]),
            text_cell(row["reason"]),
        ]
        for row in rows.head(_MOST_SHOWN).to_dict("records")
    ]
    return section("Left to the forecast", note, table(heads, cells))


def left_in_words(rows: pd.DataFrame) -> Iterator[str]:
    """One line on the terminal, where anything was left."""
    if len(rows):
        counts = ", ".join(f"{count} {name}" for name, count in rows["verdict"].value_counts().items())
        was = "was" if len(rows) == 1 else "were"
        unsure = int((rows["sure"] < SURE).sum())
        yield (
            f"{runs_in_words(len(rows))} {was} left to the forecast by launch.budget, not measured: {counts}; "
            f"{unsure} of them less than {SURE:.0%} sure (left.csv)"
        )


def _speedup(row: dict[Hashable, Any]) -> str:
    return "" if pd.isna(row["speedup"]) else f"{row['speedup']:.2f}× ({row['low']:.2f}–{row['high']:.2f})"
