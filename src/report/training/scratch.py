"""Trainings from scratch (task=train), in the report and on the terminal: curves, and what came of them."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd

from src.analysis.runs.frame import Row
from src.analysis.trainings import Curves, curves_of
from src.analysis.verdicts import milliseconds, status, treatment_text
from src.config.lines import clipped
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.runs.filters import Filters
from src.report.training.curves import curves_html

_HEADS = ["Recipe", "Says", "Steps", "A step, ms", "Loss at the end", "Judged"]
_OWN = ("steps", "step_ms", "loss")  # of training/...: columns of their own; the others are of the objective
_MOST_TOLD = 160  # characters of a reason
_NOTE = (
    "Whole trainings, from the seed on. A step: wall time with all that was due after it, of one process, so "
    "these do not compare speeds; task=training does. Distance: how much higher the loss of a step is than that of "
    "the unquantized training with the same seed and data."
)


def trained_html(trainings: pd.DataFrame, filters: Filters, outputs: Path) -> str:
    """A table and the curves of each model and device."""
    body = f'<h3>From scratch</h3><p class="note">{escape(_NOTE)}</p>' if len(trainings) else ""
    for name, rows in _by_model(trainings):
        listed = [row for _, row in rows.iterrows()]
        body += f"<h3>{escape(name)}</h3>"
        body += table(_HEADS, [_cells(row) for row in listed], [filters.attribute(row) for row in listed])
        body += "".join(curves_html(each) for each in curves_of(rows, outputs))
    return body


def trained_in_words(trainings: pd.DataFrame, outputs: Path) -> Iterator[str]:
    """Lines for the terminal: what came of each training, and how far its curve is from the unquantized one."""
    for name, rows in _by_model(trainings):
        yield f"training of {name}:"
        for _, row in rows.iterrows():
            steps = row.get("training/steps")
            told = [f"{steps:.0f} steps"] if pd.notna(steps) else [str(row["reason"])]
            yield f"  {treatment_text(row)}: {', '.join([status(row), *told, *_judged(row)])}"
        for found in curves_of(rows, outputs):
            yield from _apart(found)


def _apart(found: Curves) -> Iterator[str]:
    for name, curve in found.by_recipe.items():
        if curve.distance is not None:
            yield f"  loss of {name}, {found.told}: {curve.apart} from {found.name}"


def _by_model(trainings: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    groups = trainings.groupby(["model", "device"], sort=True) if len(trainings) else ()
    for (model, device), rows in groups:
        yield f"{model}, {device}", rows.sort_values(["started_at", "quant"])


def _cells(row: Row) -> list[Cell]:
    steps, step_ms, loss = (row.get(f"training/{name}") for name in _OWN)
    head = [
        Cell(f'<span class="label">{escape(treatment_text(row))}</span>', treatment_text(row)),
        Cell(chip(status(row)), status(row)),
    ]
    if pd.isna(steps):
        told = clipped(str(row["reason"]), _MOST_TOLD)
        return [*head, Cell(f'<span class="why">{escape(told)}</span>', columns=len(_HEADS) - len(head))]
    return [
        *head,
        number_cell(f"{steps:,.0f}", steps),
        number_cell(milliseconds(step_ms), step_ms),
        number_cell(f"{loss:.4g}", loss),
        text_cell(", ".join(_judged(row))),
    ]


def _judged(row: Row) -> list[str]:
    """What the objective said of the result on held-out data."""
    named = [name for name in map(str, row.index) if name.startswith("training/held_out")]
    return [
        f"{name.partition('/')[2].replace('_', ' ')} {row[name]:.4g}" for name in named if pd.notna(row[name])
    ]
