"""What training steps take by a recipe and without it, and the loss curves of both."""

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from src.analysis.runs.frame import WORKLOAD, Row, trained
from src.analysis.verdicts import (
    decibels,
    interval_text,
    milliseconds,
    speedup_text,
    status,
    treatment_text,
    workload_text,
)
from src.config.schema.steps import NO_OPTIMIZER
from src.records.mlflow.content import LOSSES_NAME
from src.records.store import run_folder
from src.report.graphics.markup import Cell, chip, legend, number_cell, table, text_cell
from src.report.graphics.palette import Line, scheme_lines
from src.report.runs.figures import bare_figure
from src.report.runs.filters import Filters
from src.report.runs.sections import grid, panel, section
from src.report.runs.training_shapes import shapes_html

_HEADS = [
    *("Recipe", "Says", "Step, ms", "Speedup", "Interval", "Curves apart", "Gradient, dB"),
    *("Weights", "Gradients", "Optimizer", "Kept for backward", "Why"),
]
_PHASES = ("model", "gradients", "optimizer", "activations")
_INK, _HEIGHT, _UNQUANTIZED = "#30343a", 260, "unquantized"
_MIB = 1024  # of a GiB
_MOST_PANELS = 12
_MOST_TOLD = 60  # characters of a reason
_NOTE = (
    "A step is forward, backward and optimizer, of the same weights with and without the recipe, in alternating "
    f"rounds; by a recipe that says optimizer={NO_OPTIMIZER} it is forward and backward alone. Memory is without and "
    "with the recipe, in MiB; what is kept for the backward is counted eagerly. Curves apart: mean distance of the "
    "two loss curves, as a share of the unquantized one's mean. Whole reasons: verdicts.csv."
)


def training_section(runs: pd.DataFrame, filters: Filters, outputs: Path) -> str:
    """A table and the loss curves of each workload; empty where nothing was trained."""
    found = trained(runs)
    if found.empty:
        return ""
    body, panels = "", list[str]()
    models = found[found["M"].isna()]
    for _, rows in models.groupby(["device", *WORKLOAD], dropna=False, sort=True):
        name = f"{workload_text(rows.iloc[0])}, {rows.iloc[0]['device']}"
        body += f"<h3>{escape(name)}</h3>{_table(rows, filters)}"
        curves = _curves(rows, outputs)
        if curves and len(panels) < _MOST_PANELS:
            lines = _lines(curves)
            body += legend(lines, curves)
            panels.append(panel(f"loss, {name}", "", _figure(curves, lines)))
    curves_html = grid(panels, "wide") if panels else ""
    return section("Training", _NOTE, body + curves_html + shapes_html(found, filters))


def _table(rows: pd.DataFrame, filters: Filters) -> str:
    listed = [row for _, row in rows.iterrows()]
    return table(_HEADS, [_cells(row) for row in listed], [filters.attribute(row) for row in listed])


def _cells(row: Row) -> list[Cell]:
    apart, gradient = row.get("quality/loss_distance"), row.get("quality/gradient_sqnr_db")
    times = [milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", "")]
    return [
        text_cell(treatment_text(row)),
        Cell(chip(status(row)), status(row)),
        Cell(" → ".join(times) if all(times) else "", row["latency/median_ms"], number=True),
        number_cell(speedup_text(row), row["speedup/ratio"]),
        text_cell(interval_text(row)),
        number_cell(f"{apart:.2%}" if pd.notna(apart) else "", apart),
        number_cell(decibels(gradient), gradient),
        *(_memory(row, phase) for phase in _PHASES),
        text_cell(_shortened(str(row["reason"]))),
    ]


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _MOST_TOLD else f"{reason[: _MOST_TOLD - 1]}…"


def _memory(row: Row, phase: str) -> Cell:
    before, after = row.get(f"memory/baseline_{phase}_gib"), row.get(f"memory/{phase}_gib")
    if pd.isna(before) or pd.isna(after):
        return Cell("")
    return Cell(f"{before * _MIB:,.1f} → {after * _MIB:,.1f}", float(after), number=True)


def _curves(rows: pd.DataFrame, outputs: Path) -> dict[str, list[float]]:
    """The unquantized arm's losses once, and each recipe's, as far as they are on this disk."""
    curves: dict[str, list[float]] = {}
    for _, row in rows.iterrows():
        path = run_folder(outputs, str(row["run_key"]), int(row["attempt"])) / LOSSES_NAME
        if path.is_file():
            read = json.loads(path.read_text(encoding="utf-8"))
            curves.setdefault(_UNQUANTIZED, read["baseline_loss"])
            curves[treatment_text(row)] = read["loss"]
    return curves


def _lines(names: Iterable[str]) -> dict[str, Line]:
    listed = [name for name in names if name != _UNQUANTIZED]
    return {_UNQUANTIZED: Line(_INK, "circle", "solid")} | scheme_lines(listed)


def _figure(curves: dict[str, list[float]], lines: dict[str, Line]) -> go.Figure:
    """The loss over steps."""
    figure = bare_figure(_HEIGHT)
    for name, losses in curves.items():
        told = [f"{name}: {loss:.4g} at step {step}" for step, loss in enumerate(losses, 1)]
        figure.add_scatter(
            x=[*range(1, len(losses) + 1)], y=losses, mode="lines", name=escape(name),
            line={"color": lines[name].colour, "dash": lines[name].dash, "width": 2},
            customdata=told, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title={"text": "step", "standoff": 6})
    figure.update_yaxes(title={"text": "loss", "standoff": 4}, type="log")
    return figure
