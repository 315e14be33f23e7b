"""The tables of the report's regimes: rules, predictions, how both were tested, published numbers."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from src.forecasts.forecast import UNKNOWN
from src.planning.teaching import sure_text
from src.regimes.regimes import Regimes
from src.regimes.rules import Rule
from src.regimes.trials import Trial
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell

_MOST_SHOWN, _MOST_RULES = 200, 120  # predictions, and rules, in the report


def rules_table(rules: list[Rule]) -> str:
    """The rules, with the cells that each stands for."""
    heads = [
        "Device",
        "Compile",
        "Scheme",
        "Where",
        "Verdict",
        "Speedup",
        "Cells",
        "Published",
        "Right, left out",
    ]
    rows = [
        [
            *map(text_cell, (rule.device, rule.compile, rule.quant, rule.where)),
            _verdict(rule),
            Cell(
                f"{rule.speedup:.2f}× <small>{rule.low:.2f}–{rule.high:.2f}</small>",
                rule.speedup,
                number=True,
            ),
            number_cell(str(rule.cells), rule.cells),
            number_cell(str(rule.cells - rule.own), rule.cells - rule.own),
            number_cell(rule.tested, None)
            if rule.right is None
            else number_cell(f"{rule.right} of {rule.cells}", rule.right / rule.cells),
        ]
        for rule in rules[:_MOST_RULES]
    ]
    left = len(rules) - _MOST_RULES
    return table(heads, rows) + (f'<p class="note">{left} more rules are left out.</p>' if left > 0 else "")


def _verdict(rule: Rule) -> Cell:
    """No verdict of a refuted rule, and why."""
    return text_cell(f"none: {rule.doubt}") if rule.is_refuted else Cell(chip(rule.verdict), rule.verdict)


def predictions_table(rows: pd.DataFrame) -> str:
    """The first predictions."""
    heads = ["Device", "M×K×N", "Scheme", "Verdict", "Speedup", "Sure", "Rule, or why it is unknown"]
    cells = []
    for row in rows.head(_MOST_SHOWN).to_dict("records"):
        known = row["verdict"] != UNKNOWN
        cells.append(
            [
                text_cell(row["device"]),
                text_cell(shape_text(row)),
                text_cell(row["quant"]),
                Cell(chip(row["verdict"]), row["verdict"]),
                Cell(speedup_text(row) if known else "", row["speedup"] if known else None, number=True),
                number_cell(sure_text(row["sure"]) if known else "", row["sure"]),
                text_cell("; ".join(filter(None, [row["rule"], row["reason"]]))),
            ]
        )
    return table(heads, cells)


def trials_table(trials: list[Trial]) -> str:
    """How each way to predict did on what was left out."""
    heads = ["Left out", "Predicted by", "Cells", "Right of those > 10 % from 1", "Wrong", "Unknown", "Median error",
             "Within 25 %", "Interval holds"]  # fmt: skip
    rows = [
        [
            *map(text_cell, (each.left_out, each.way)),
            number_cell(f"{each.cells} ({each.far})", each.cells),
            *(number_cell(_share(value), value) for value in (each.right, each.wrong, each.unknown, each.error,
                                                                each.within, each.covered)),
        ]
        for each in trials
    ]  # fmt: skip
    return table(heads, rows)


def _share(value: float) -> str:
    return f"{value:.1%}" if pd.notna(value) else ""


def published_tables(found: Regimes) -> str:
    """What was imported, folded away: layers, then models."""
    layers, models = found.imported.cells, found.imported.models
    heads = {
        "Layers": ["Device", "Compile", "M×K×N", "Scheme", "Speedup", "File"],
        "Models": [
            "Hardware",
            "Model",
            "Batch",
            "Compile",
            "Scheme",
            "Speedup",
            "Samples",
            "Against",
            "Source",
        ],
    }
    of_layers = [
        [
            *map(text_cell, (row["device"], row["compile"], shape_text(row), row["quant"])),
            number_cell(f"{row['speedup']:.3g}×", row["speedup"]),
            text_cell(row["source"]),
        ]
        for row in layers.to_dict("records")
    ]
    of_models = [
        [
            *(text_cell(row[name]) for name in ("hardware", "model", "batch", "compile", "quant")),
            number_cell(f"{row['speedup']:.3g}×", row["speedup"]),
            number_cell(str(row["samples"]), row["samples"]),
            *(text_cell(row[name]) for name in ("against", "source")),
        ]
        for row in models.to_dict("records")
    ]
    return "".join(
        f"<details><summary>{len(rows)} {name.lower()}</summary>{table(heads[name], rows)}</details>"
        for name, rows in (("Layers", of_layers), ("Models", of_models))
        if rows
    )


def shape_text(row: dict[Hashable, Any]) -> str:
    """M×K×N."""
    return f"{row['M']}×{row['K']}×{row['N']}"


def speedup_text(row: dict[Hashable, Any]) -> str:
    """A speedup with its interval."""
    return f"{row['speedup']:.2f}× ({row['low']:.2f}–{row['high']:.2f})"
