"""Of the section on training, the part on single layers: where a recipe pays, by the shapes of its three matmuls."""

from collections.abc import Iterator
from html import escape

import pandas as pd

from src.analysis.runs.frame import Row
from src.analysis.training_shapes import regimes, training_shapes
from src.analysis.verdicts import interval_text, milliseconds, speedup_text, status, treatment_text
from src.records.products import products
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.runs.filters import Filters
from src.report.runs.heatmap import maps, width
from src.report.runs.sections import grid, verdict_legend
from src.report.training.predicted import predicted_html

_HEADS = [
    *("Output M×K×N", "Input's gradient", "Weights' gradient", "GFLOP each", "Recipe", "Says"),
    *("Step, ms", "Speedup", "Interval"),
]
_MOST_ROWS = 200
_NOTE = (
    "Steps of one Linear, y[M, N] = x[M, K] W[N, K]ᵀ: three matmuls of as much work and other shapes. The number in "
    "a map is a step's speedup; hatched: emulated, or did not run; a cell says why when it is pointed at."
)


def shapes_html(runs: pd.DataFrame, filters: Filters, margin: float) -> str:
    """Sentences, a map per recipe, a table; nothing where no single layer was trained."""
    found = training_shapes(runs)
    if found.empty:
        return ""
    words = "".join(f'<p class="map-words">{escape(each.text)}</p>' for each in regimes(found))
    panels, left = maps(found, filters)
    more = f"<p>{left:,} more maps would be of what verdicts.csv has.</p>" if left else ""
    drawn = f"{verdict_legend(hatched=True)}{grid(panels, width(found))}{more}"
    listed = [row for _, row in found.sort_values(["M", "K", "N", "quant"]).head(_MOST_ROWS).iterrows()]
    rows = table(_HEADS, [_cells(row) for row in listed], [filters.attribute(row) for row in listed])
    cut = len(found) - len(listed)
    rows += f'<p class="note">{cut:,} more in <a href="verdicts.csv">verdicts.csv</a>.</p>' if cut else ""
    note = f'<p class="note">{escape(_NOTE)}</p>'
    return f"<h3>By shape</h3>{note}{words}{drawn}{rows}{predicted_html(runs, margin)}"


def training_in_words(runs: pd.DataFrame) -> Iterator[str]:
    """A sentence per recipe and place on where steps of one Linear pay."""
    yield from (f"Training steps by {each.text}" for each in regimes(training_shapes(runs)))


def _cells(row: Row) -> list[Cell]:
    m, k, n = (int(row[name]) for name in "MKN")
    gflop = 2e-9 * m * k * n
    times = [milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", "")]
    return [
        *(text_cell("×".join(map(str, shape))) for shape in products(m, k, n).values()),
        number_cell(f"{gflop:.3g}", gflop),
        text_cell(treatment_text(row)),
        Cell(chip(status(row)), status(row)),
        Cell(" → ".join(times) if all(times) else "", row["latency/median_ms"], number=True),
        number_cell(speedup_text(row), row["speedup/ratio"]),
        text_cell(interval_text(row)),
    ]
