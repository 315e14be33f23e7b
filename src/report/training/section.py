"""What training steps take by a recipe and without it, and the loss curves of both; trainings from scratch."""

from html import escape
from pathlib import Path

import pandas as pd

from src.analysis.runs.frame import WORKLOAD, Row, trained
from src.analysis.trainings import curves_of, share
from src.analysis.verdicts import (
    decibels,
    interval_text,
    milliseconds,
    speedup_text,
    status,
    treatment_text,
    workload_text,
)
from src.config.lines import clipped
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.runs.filters import Filters
from src.report.runs.sections import section
from src.report.training.curves import curves_html
from src.report.training.scratch import trained_html
from src.report.training.shapes import shapes_html

_HEADS = [
    *("Recipe", "Says", "Step, ms", "Speedup", "Interval", "Curves apart", "Gradient, dB"),
    *("Weights", "Gradients", "Optimizer", "Kept for backward"),
]
_PHASES = ("model", "gradients", "optimizer", "activations")
_MIB = 1024  # of a GiB
_MOST_DRAWN = 12  # figures of losses
_MOST_TOLD = 100  # characters of a reason
_NOTE = (
    "A step is forward, backward and optimizer, of the same weights with and without the recipe, in alternating "
    "rounds; by a recipe that says optimizer=none it is forward and backward alone. Memory is without and "
    "with the recipe, in MiB; what is kept for the backward is counted eagerly. Curves apart: mean distance of the "
    "two loss curves, of the same seed and data, as a share of the unquantized one's mean; the figure has it step by "
    "step. Whole reasons: verdicts.csv."
)


def training_section(
    runs: pd.DataFrame, filters: Filters, outputs: Path, whole: pd.DataFrame, margin: float
) -> str:
    """Steps by recipes and without, single layers, trainings from scratch; empty where nothing was trained.

    Args:
        runs: of all kinds.
        filters: of the page.
        outputs: where the runs' folders are, and in them the losses.
        whole: of `task=train`.
        margin: a speedup within it is neutral, relative.
    """
    found, body, drawn = trained(runs), "", 0
    models = found[found["M"].isna()]
    for _, rows in models.groupby(["device", *WORKLOAD], dropna=False, sort=True):
        name = f"{workload_text(rows.iloc[0])}, {rows.iloc[0]['device']}"
        body += f"<h3>{escape(name)}</h3>{_table(rows, filters)}"
        curves = curves_of(rows, outputs) if drawn < _MOST_DRAWN else []
        body += "".join(map(curves_html, curves))
        drawn += len(curves)
    body += shapes_html(found, filters, margin) + trained_html(whole, filters, outputs)
    return section("Training", _NOTE if len(found) else "", body) if body else ""


def _table(rows: pd.DataFrame, filters: Filters) -> str:
    listed = [row for _, row in rows.iterrows()]
    return table(
        _HEADS, [_cells(row) for row in listed], [f"{filters.attribute(row)} data-run" for row in listed]
    )


def _cells(row: Row) -> list[Cell]:
    apart, gradient = row.get("quality/loss_distance"), row.get("quality/gradient_sqnr_db")
    return [
        Cell(f'<span class="label">{escape(treatment_text(row))}</span>', treatment_text(row)),
        Cell(chip(status(row)), status(row)),
        *_speed(row),
        number_cell(share(apart), apart),
        number_cell(decibels(gradient), gradient),
        *(_memory(row, phase) for phase in _PHASES),
    ]


def _speed(row: Row) -> list[Cell]:
    """Times and speedup; of a run without one, why."""
    if not row["verdict"]:
        return [
            Cell(f'<span class="why">{escape(clipped(str(row["reason"]), _MOST_TOLD))}</span>', columns=3)
        ]
    times = [milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", "")]
    return [
        Cell(" → ".join(times) if all(times) else "", row["latency/median_ms"], number=True),
        number_cell(speedup_text(row), row["speedup/ratio"]),
        text_cell(interval_text(row)),
    ]


def _memory(row: Row, phase: str) -> Cell:
    before, after = row.get(f"memory/baseline_{phase}_gib"), row.get(f"memory/{phase}_gib")
    if pd.isna(before) or pd.isna(after):
        return Cell("")
    parts = (
        f"{before * _MIB:,.1f} →",
        f"{after * _MIB:,.1f}",
    )  # below each other where the table is too wide
    return Cell(" ".join(f'<span class="part">{part}</span>' for part in parts), float(after), number=True)
