"""The sections of the report, each a function from runs to HTML, with what to do where it is empty."""

from html import escape
from itertools import compress
from typing import Any

import pandas as pd

from src.analysis.provenance import Provenance
from src.analysis.runs.frame import WORKLOAD, compared, devices, layer_level, model_level
from src.analysis.shapes import Shapes, shapes
from src.analysis.verdicts import random_weights, workload_text
from src.report.graphics.markup import chip, definitions, empty, heading, legend
from src.report.graphics.palette import VERDICTS, scheme_lines
from src.report.graphics.svg import WIDTH, drawing
from src.report.runs import figures
from src.report.runs.filters import Filters
from src.report.runs.heatmap import heatmaps, width
from src.report.runs.links import RunLinks
from src.report.runs.tables import breakeven_html, verdicts_html
from src.statistics.speedup import margin_text

_MODEL_RUNS = ("No runs of whole models or blocks yet:", "-m", "quant=int8wo,int8dq", "batch=1,4")
_NONE_COMPARED = ("None of the runs of whole models could be compared; the table says why. To start small:",
                  "quant=int8wo")  # fmt: skip
_NO_CURVES = ("None of the runs of one Linear has a speedup that may be compared; the table says why. Again, alone:",
              "-m", "sweeps=linear_shapes")  # fmt: skip
_SMALL, _BROAD = 300, 420  # px, of figures that are not as wide as most
_FEW_PANELS = 2  # so many share a row, broad
_MOST_PANELS, _OF_MANY, _MANY = 36, 5, 800  # of a section; of so many runs
_MOST_POINTS = 100  # of a figure
_OF_A_LINEAR = ["model", "target", "dtype"]
_PANEL = ["device", "compile", *_OF_A_LINEAR, "K", "N"]  # of the curves over M
_MOST_KEYS = 12  # of a legend, where labels tell what it would
_MOST_TREATMENTS = 24  # of a figure, so that a printed page holds it
_LINEAR_RUNS = ("No runs of one Linear yet:", "-m", "sweeps=linear_shapes")


def verdicts_section(runs: pd.DataFrame, filters: Filters, links: RunLinks) -> str:
    """The verdict table: whole models and blocks, then each Linear folded away."""
    models, layers = model_level(runs), layer_level(runs)
    body = verdicts_html(models, filters, links) if len(models) else empty(*_MODEL_RUNS)
    if len(layers):
        rows = verdicts_html(layers, filters, links)
        body += f"<details><summary>{len(layers):,} runs of one Linear</summary>{rows}</details>"
    note = (
        "Each treatment against its unquantized baseline, compiled alike: in the run's dtype, or in another one that "
        "is faster on this device, which the row then says. Click a column to sort; a row unfolds to its command and "
        "folder. All of it: verdicts.csv."
    )
    note += f" {text[0].upper()}{text[1:]}." if (text := random_weights(runs)) else ""
    return section("Verdicts", note, body)


def forest_section(runs: pd.DataFrame, margin: float, filters: Filters) -> str:
    """Speedups with intervals, a panel per workload and device."""
    ran = compared(model_level(runs))
    if ran.empty:
        return section("Speedups", "", empty(*_NONE_COMPARED)) if len(model_level(runs)) else ""
    span = figures.speedup_range(ran, margin)
    treatment = ["quant", "variant", "compile"]
    ran = ran.assign(_rank=ran.groupby(treatment)["speedup/ratio"].transform("median"))
    number = ran.groupby(["device", *WORKLOAD], dropna=False).ngroup()
    most = most_panels(runs)
    panels, left = [], int(number.max()) + 1 - most
    for _, rows in ran[number < most].groupby(number, sort=True):
        ordered = rows.sort_values(["_rank", *treatment], ascending=False)
        beside = str(rows["device"].iloc[0]) if ran["device"].nunique() > 1 else ""
        own = filters.attribute(rows.iloc[0], "model", "device", "dtype", "batch")
        for first in range(0, len(ordered), _MOST_TREATMENTS):
            part = ordered.iloc[first : first + _MOST_TREATMENTS]
            of = (
                f" ({first + 1} to {first + len(part)} of {len(ordered)})" if len(part) < len(ordered) else ""
            )
            title = f"{workload_text(rows.iloc[0])}{of}"
            panels.append((title, beside, figures.forest(part, span, margin), own))
    few = len(panels) <= _FEW_PANELS
    drawn = [panel(*each, width=_BROAD if few else WIDTH) for each in panels]
    note = f"Estimate and interval; the grey band is the margin of ±{margin_text(margin)}. One scale for all panels."
    note += f" {left:,} more workloads in verdicts.csv." if left > 0 else ""
    return section("Speedups", note, verdict_legend() + grid(drawn, "broad" if few else "wide"))


def memory_section(runs: pd.DataFrame, margin: float) -> str:
    """Memory saved against speedup."""
    ran = compared(model_level(runs))
    ran = ran[ran["memory/saved"].notna() & (ran["quant"] != "none")]
    if ran.empty:
        return ""
    lines, newest = scheme_lines(runs["quant"]), ran.sort_values("started_at").tail(_MOST_POINTS)
    drawn = figures.memory_against_speedup(newest, lines, margin)
    keys = legend(lines, newest["quant"]) if newest["quant"].nunique() <= _MOST_KEYS else ""
    body = keys + panel("Speedup over model memory saved", "", drawn, width=_BROAD)
    note = "Top right is better. The number is the SQNR in dB; a mark's own text has the rest, and so has the table."
    note += f" {text[0].upper()}{text[1:]}." if (text := random_weights(newest)) else ""
    note += f" Shown are the newest {_MOST_POINTS} of {len(ran):,} runs." if len(ran) > _MOST_POINTS else ""
    return section("Memory against speed", note, body)


def breakeven_section(runs: pd.DataFrame, breakeven: pd.DataFrame, filters: Filters) -> str:
    """The break-even table."""
    if breakeven.empty:
        why = _NO_CURVES if len(layer_level(runs)) else _LINEAR_RUNS
        return section("Break-even shapes", "", empty(*why))
    note = (
        "Between which measured M the speedup of one Linear crosses 1, by the runs' intervals. ≤ and ≥: perhaps "
        "beyond what was measured. The small numbers would hold if the speedup were straight in between (log-log); "
        "what it does there nobody measured. All of it: breakeven.csv."
    )
    return section("Break-even shapes", note, breakeven_html(breakeven, filters))


def curves_section(runs: pd.DataFrame, margin: float, filters: Filters) -> str:
    """Speedup over M, a panel per K x N, below each other by compile mode and device."""
    layers = compared(layer_level(runs))
    told = (layers["quant"] != "none") & ~layers["withheld"]
    number = layers[_PANEL].where(told).groupby(_PANEL).ngroup()
    most = most_panels(runs)
    curves = list(shapes(layers[told & (number < most)]))
    if not curves:
        return ""
    shown = [curve.name for curve in curves]
    lines, several = (
        scheme_lines([*runs["quant"], *shown]),
        len({str(curve.group["device"]) for curve in curves}) > 1,
    )
    body = legend(lines, shown)
    for (device, mode), members in _by(curves, "device", "compile").items():
        on = f" on {device}" if several else ""
        span = figures.speedup_range(pd.concat([curve.runs for curve in members]), margin)
        grouped = _by(members, *_OF_A_LINEAR, "K", "N")
        beside = [
            any(key[at] != next(iter(grouped))[at] for key in grouped) for at in range(len(_OF_A_LINEAR))
        ]
        plots = [
            panel(f"K×N = {k}×{n}", ", ".join(map(str, compress(of, beside))), figures.over_m(c, lines, span, margin),
                  filters.attribute(c[0].group, "device", "dtype"), width=_SMALL)
            for (*of, k, n), c in grouped.items()
        ]  # fmt: skip
        body += f"<h3>{escape(f'compile={mode}{on}')}</h3>{grid(plots)}"
    note = (
        "One Linear y[M, N] = x[M, K] W[N, K]ᵀ. Coloured bands are the runs' intervals, the grey band is "
        f"±{margin_text(margin)}. An open circle is where a straight line between two measured M breaks even, its "
        "bar from where to where the break-even may lie. One scale per device and compile mode."
    )
    left = int(number.max()) + 1 - most
    note += f" {left:,} more K×N, compile modes and devices in the break-even table." if left > 0 else ""
    return section("Speedup over M", note, body)


def heatmap_section(runs: pd.DataFrame, filters: Filters) -> str:
    """Verdicts over M and K x N."""
    panels, left = heatmaps(runs, filters)
    if not panels:
        return ""
    body = verdict_legend(hatched=True) + grid(panels, width(layer_level(runs)))
    note = "The number is the speedup. Blank: not measured."
    note += f" {left:,} more schemes, compile modes and devices in verdicts.csv." if left else ""
    return section("Verdicts over shapes", note, body)


def protocol_section(runs: pd.DataFrame, found: Provenance, margin: float) -> str:
    """How it was measured."""
    outcomes = ", ".join(f"{count} {name}" for name, count in runs["outcome"].value_counts().items())
    first, last = (
        f"{moment:%Y-%m-%d %H:%M}" for moment in (runs["started_at"].min(), runs["started_at"].max())
    )
    pairs = [
        ("Runs", f"{len(runs)} ({outcomes})"),
        ("Devices", "; ".join(devices(runs))),
        ("Measured", f"{first} to {last} UTC"),
        (
            "Verdict",
            f"helps or hurts when the whole interval lies beyond ±{margin_text(margin)}, neutral when inside",
        ),
        (
            "Interval",
            "; ".join(
                f"{count} of {text}" for text, count in compared(runs)["interval"].value_counts().items()
            ),
        ),
        ("Calibration", "; ".join(found.calibrations)),
        ("Pairing", ", ".join(f"{count} {name}" for name, count in found.pairing.items())),
        ("Ended by", ", ".join(f"{count} {name}" for name, count in found.stopped_by.items())),
        *((name, ", ".join(values[:4])) for name, values in found.versions.items()),
    ]
    note = (
        "Baseline and treatment run the same weights and inputs in one process; unless told otherwise, their rounds "
        "alternate. The estimate is the paired ratio, with its interval."
    )
    return section("How it was measured", note, definitions([pair for pair in pairs if pair[1]]))


def most_panels(runs: pd.DataFrame) -> int:
    """Fewer of very many runs: they can only be examples."""
    return _MOST_PANELS if len(runs) < _MANY else _OF_MANY


def _by(curves: list[Shapes], *names: str) -> dict[tuple[Any, ...], list[Shapes]]:
    """Curves by the values of these names, in the order met."""
    groups: dict[tuple[Any, ...], list[Shapes]] = {}
    for curve in curves:
        groups.setdefault(tuple(curve.group[name] for name in names), []).append(curve)
    return groups


def section(title: str, note: str, body: str) -> str:
    """A section of a page: its head, a note in small print, its content as HTML."""
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section>{heading(title)}{told}{body}</section>"


def verdict_legend(*, hatched: bool = False) -> str:
    """The verdicts' colours and glyphs."""
    items = "".join(chip(name) for name in VERDICTS)
    ended = (
        '<span class="key"><i class="box hatched"></i>did not run (the table says why)</span>'
        if hatched
        else ""
    )
    return f'<p class="legend">{items}{ended}</p>'


def panel(title: str, beside: str, figure: Any, own: str = "", width: int = WIDTH) -> str:
    """A figure with its caption; `own` is what filters know of it, as an attribute."""
    note = f" <small>{escape(beside)}</small>" if beside else ""
    drawn = plot(figure, ", ".join(filter(None, [title, beside])), width)
    return f'<figure class="panel"{own}><figcaption>{escape(title)}{note}</figcaption>{drawn}</figure>'


def plot(figure: Any, caption: str = "", width: int = WIDTH) -> str:
    """A figure as SVG; its caption and first marks are what a reader is told who does not see it."""
    return drawing(figure, escape(caption), width)


def grid(panels: list[str], size: str = "small") -> str:
    """Panels beside each other: small, wide or broad ones."""
    return f'<div class="grid {size}">{"".join(panels)}</div>'
