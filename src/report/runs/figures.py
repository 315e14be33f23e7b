"""The report's plots, as small panels that a page lays out; one scale per kind, so that they compare."""

import math
from html import escape
from textwrap import wrap
from typing import Any

import pandas as pd

from src.analysis.breakeven import Crossing
from src.analysis.crossing_words import crossing_in_words
from src.analysis.runs.frame import Plain, plain
from src.analysis.shapes import Shapes
from src.analysis.verdicts import (
    decibels,
    interval_text,
    milliseconds,
    percent,
    treatment_text,
    workload_text,
)
from src.report.graphics.described import Figure
from src.report.graphics.palette import VERDICTS, Line, look, translucent

_INK, _BAND = "#30343A", "rgba(122,127,135,0.16)"
_COARSE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)
_TICKS = (  # the finest that fits is taken
    tuple(i / 20 for i in range(10, 41)),
    tuple(i / 10 for i in range(1, 31)),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5),
    _COARSE_TICKS,
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
    (0.01, 0.1, 1, 10, 100),
)
_MOST_TICKS = 7
_MOST_M_TICKS = 5
_CUT = 3.0
_WIDEST = 28  # characters of a label's line

Range = tuple[float, float]


def speedup_range(runs: pd.DataFrame, margin: float) -> Range:
    """A range of speedups that holds all intervals, 1 and the margin, with some air; ratios.

    An interval of two processes may span decades: beyond 3 times the speedups it is cut off.
    """
    ends = (float(runs["speedup/ci_low"].min()), float(runs["speedup/ci_high"].max()))
    low = min(max(ends[0], float(runs["speedup/ratio"].min()) / _CUT), 1 / (1 + 2 * margin), 0.95)
    high = max(min(ends[1], float(runs["speedup/ratio"].max()) * _CUT), 1 + 2 * margin, 1.05)
    air = (high / low) ** 0.06
    return low / air, high * air


def forest(rows: pd.DataFrame, span: Range, margin: float) -> Figure:
    """Speedup and interval of every treatment of one workload on one device; `rows` from top to bottom."""
    labels = [_label(row) for row in plain(rows)]
    figure = Figure(96 + (24 + 16 * max(label.count("<br>") for label in labels)) * len(rows))
    for name, style in VERDICTS.items():
        chosen = [i for i, found in enumerate(rows["verdict"]) if found == name]
        part = rows.iloc[chosen]
        figure.add_scatter(
            x=part["speedup/ratio"], y=[labels[i] for i in chosen], mode="markers", name=name,
            marker={"color": style.ink, "symbol": style.symbol, "size": 9},
            error_x=_ends(part, style.ink),
            customdata=[_hover(row, row["device"]) for row in plain(part)],
        )  # fmt: skip
    figure.update_yaxes(categoryarray=labels[::-1], showgrid=False)
    figure.update_xaxes(**speedup_axis(span), title="speedup over the baseline")
    figure.add_shape((1 / (1 + margin), 1 + margin), None, fillcolor=_BAND)
    figure.add_vline(1, line={"color": _INK, "width": 1})
    return figure


def _label(row: Plain) -> str:
    """A treatment and its speedup; its options below, since beside it long ones leave no room for the plot."""
    head = f"{escape(row['quant'])} · {escape(row['compile'])}  <b>{row['speedup/ratio']:.2f}×</b>"
    return "<br>".join([head, *map(escape, wrap(row["variant"], _WIDEST))])


def over_m(curves: list[Shapes], lines: dict[str, Line], span: Range, margin: float) -> Figure:
    """Speedup over M of one (K, N), compile mode and device: a line per scheme and variant, with its interval."""
    figure = Figure(280)
    figure.add_shape(None, (1 / (1 + margin), 1 + margin), fillcolor=_BAND)
    figure.add_hline(1, line={"color": _INK, "width": 1})
    for curve in curves:
        _add_curve(figure, curve, lines[curve.name])
    measured = sorted({int(m) for curve in curves for m in curve.runs["M"]})
    ticks = measured[:: math.ceil(len(measured) / _MOST_M_TICKS)]
    air = (measured[-1] / measured[0]) ** 0.04 if len(measured) > 1 else 2.0
    figure.update_xaxes(
        type="log", range=[math.log10(measured[0] / air), math.log10(measured[-1] * air)],
        tickvals=ticks, ticktext=[f"{m}" for m in ticks], title="M (rows of the input)",
    )  # fmt: skip
    figure.update_yaxes(**speedup_axis(span), title="speedup")
    return figure


def memory_against_speedup(runs: pd.DataFrame, lines: dict[str, Line], margin: float) -> Figure:
    """Model memory saved against speedup of whole models and blocks, each point with its scheme and SQNR in dB."""
    figure = Figure(400)
    for quant, part in runs.groupby("quant"):
        line = lines[str(quant)]
        figure.add_scatter(
            x=100 * part["memory/saved"], y=part["speedup/ratio"], mode="markers+text", name=escape(str(quant)),
            text=[f"{escape(str(quant))} {decibels(sqnr)}" for sqnr in part["quality/sqnr_db"]],
            marker={"color": line.colour, "symbol": line.symbol, "size": 9, "line": {"color": "white", "width": 1}},
            error_y=_ends(part, translucent(line.colour, 0.45)),
            customdata=[_hover(row, row["device"]) for row in plain(part)],
        )  # fmt: skip
    figure.add_shape(None, (1 / (1 + margin), 1 + margin), fillcolor=_BAND)
    figure.add_hline(1, line={"color": _INK, "width": 1})
    figure.update_xaxes(title="model memory saved", ticksuffix=" %")
    figure.update_yaxes(**speedup_axis(speedup_range(runs, margin)), title="speedup over the baseline")
    return figure


def _add_curve(figure: Figure, curve: Shapes, line: Line) -> None:
    runs, name = curve.runs, escape(curve.name)
    m = runs["M"].astype(int)
    figure.add_scatter(
        x=[*m, *m[::-1]], y=[*runs["speedup/ci_high"], *runs["speedup/ci_low"][::-1]],
        fill="toself", fillcolor=translucent(line.colour, 0.18), line={"width": 0}, mode="lines",
    )  # fmt: skip
    figure.add_scatter(
        x=m, y=runs["speedup/ratio"], mode="lines+markers", name=name,
        line={"color": line.colour, "width": 2, "dash": line.dash},
        marker={"color": line.colour, "symbol": line.symbol, "size": 7},
        customdata=[_hover(row) for row in plain(runs)],
    )  # fmt: skip
    found = curve.crossings()
    figure.add_scatter(
        x=[crossing.m for crossing in found], y=[1.0] * len(found), mode="markers",
        marker={"color": "white", "size": 9, "line": {"color": line.colour, "width": 2}},
        error_x=_reach(found, line.colour),
        customdata=[f"{name} breaks even {crossing_in_words(crossing)}" for crossing in found],
    )  # fmt: skip


def speedup_axis(span: Range) -> dict[str, Any]:
    """A logarithmic axis of ratios over a range, with as many ticks as fit."""
    low, high = span
    choices = [[tick for tick in every if low <= tick <= high] for every in _TICKS]
    ticks = next((chosen for chosen in choices if len(chosen) <= _MOST_TICKS), choices[-1])
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}×" for tick in ticks],
    }


def _reach(found: list[Crossing], colour: str) -> dict[str, Any]:
    """From where to where along M each break-even may lie."""
    return {"low": [each.low for each in found], "high": [each.high for each in found], "color": colour}


def _ends(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    return {"low": rows["speedup/ci_low"], "high": rows["speedup/ci_high"], "color": colour}


def _hover(row: Plain, device: str = "") -> str:
    """A run in a few lines, its device where that is not told above; plots read some HTML, so texts are escaped."""
    latency = [milliseconds(row[name]) for name in ("latency/baseline_median_ms", "latency/median_ms")]
    lines = [
        f"<b>{escape(workload_text(row))}</b>",
        escape(device),
        escape(treatment_text(row)),
        f"{row['speedup/ratio']:.3f}× ({interval_text(row)}) {look(row['verdict']).glyph} {escape(row['verdict'])}",
        escape(row["interval"].partition(";")[0]),  # all of it stands in the table
        f"{latency[0]} → {latency[1]} ms" if all(latency) else "",
        f"{percent(row['memory/saved'])} model memory saved" if percent(row["memory/saved"]) else "",
        f"SQNR {decibels(row['quality/sqnr_db'])} dB" if decibels(row["quality/sqnr_db"]) else "",
    ]
    return "<br>".join(line for line in lines if line)
