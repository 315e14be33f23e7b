"""The sections of the report, each a function from runs to HTML, with what to do where it is empty."""

from html import escape
from typing import Any

import pandas as pd

from src.analysis import figures
from src.analysis.frame import Row, compared, layer_level, model_level
from src.analysis.heatmap import heatmaps
from src.analysis.markup import Cell, chip, definitions, empty, legend, number_cell, table, text_cell
from src.analysis.palette import VERDICTS, scheme_lines
from src.analysis.provenance import Provenance
from src.analysis.shapes import shapes
from src.analysis.verdicts import (
    decibels,
    interval_text,
    milliseconds,
    percent,
    speedup_text,
    status,
    treatment_text,
    verdict_table,
    workload_text,
)

_MODEL_RUNS = ("No runs of whole models or blocks yet:", "python -m src.run -m quant=int8wo,int8dq batch=1,4")
_LINEAR_RUNS = ("No runs of one Linear yet:", "python -m src.run -m sweeps=linear_shapes")
_CONFIG = {"displayModeBar": False, "responsive": True}
_RANK = {name: rank for rank, name in enumerate(VERDICTS)}


def verdicts_section(runs: pd.DataFrame) -> str:
    """The verdict table: whole models and blocks, then each Linear folded away."""
    models, layers = model_level(runs), layer_level(runs)
    body = _verdict_table(models) if len(models) else empty(*_MODEL_RUNS)
    if len(layers):
        body += (
            f"<details><summary>{len(layers)} runs of one Linear</summary>{_verdict_table(layers)}</details>"
        )
    return _section("Verdicts", "Each treatment against its unquantized baseline, paired in one process. "
                    "Click a column to sort.", body)  # fmt: skip


def forest_section(runs: pd.DataFrame, margin: float) -> str:
    """Speedups with intervals, a panel per workload and device."""
    ran = compared(model_level(runs))
    if ran.empty:
        return _section("Speedups", "", empty(*_MODEL_RUNS))
    span = figures.speedup_range(ran, margin)
    rank = ran.groupby(["quant", "variant", "compile"])["speedup/median"].median().rank(ascending=False)
    panels = []
    for names, rows in ran.groupby(
        ["device", "model", "target", "dtype", "resolution", "batch"], dropna=False
    ):
        order = [rank[(r["quant"], r["variant"], r["compile"])] for _, r in rows.iterrows()]
        ordered = rows.assign(_rank=order).sort_values("_rank")
        beside = str(names[0]) if ran["device"].nunique() > 1 else ""
        panels.append(_panel(workload_text(rows.iloc[0]), beside, figures.forest(ordered, span, margin)))
    return _section("Speedups", f"Median and 95 % interval; the grey band is the margin of ±{margin:.0%}. One "
                    "scale for all panels.", _verdict_legend() + _grid(panels, wide=True))  # fmt: skip


def memory_section(runs: pd.DataFrame, margin: float) -> str:
    """Memory saved against speedup."""
    ran = compared(model_level(runs))
    ran = ran[ran["memory/saved"].notna() & (ran["quant"] != "none")]
    if ran.empty:
        return ""
    lines = scheme_lines(ran["quant"])
    plot = _plot(figures.memory_against_speedup(ran, lines, margin))
    return _section(
        "Memory against speed", "Top right is better. Hover for latency and SQNR.", legend(lines) + plot
    )


def breakeven_section(breakeven: pd.DataFrame) -> str:
    """The break-even table."""
    if breakeven.empty:
        return _section("Break-even shapes", "", empty(*_LINEAR_RUNS))
    several = [name for name in ("device", "dtype") if breakeven[name].nunique() > 1]
    heads = [
        *(name.capitalize() for name in several),
        "Treatment",
        "K",
        "N",
        "Break-even M",
        "Result",
        "Best",
    ]
    rows = [_breakeven_row(row, several) for _, row in breakeven.iterrows()]
    return _section("Break-even shapes", "The M from which a treatment of one Linear pays, interpolated between "
                    "measured M in log-log, with the interval that the measurements' own intervals leave it.",
                    table(heads, rows))  # fmt: skip


def curves_section(runs: pd.DataFrame, margin: float) -> str:
    """Speedup over M, a panel per K x N, compile mode and device."""
    ran = compared(layer_level(runs))
    curves = list(shapes(runs))
    if not curves:
        return ""
    lines = scheme_lines(str(curve.group["quant"]) for curve in curves)
    span = figures.speedup_range(ran, margin)
    panels: dict[tuple[Any, ...], list[Any]] = {}
    for curve in curves:
        names = ("device", "model", "target", "dtype", "compile", "K", "N")
        panels.setdefault(tuple(curve.group[name] for name in names), []).append(curve)
    several = ran["device"].nunique() > 1
    html = [
        _panel(f"K×N = {key[5]}×{key[6]} · {key[4]}", str(key[0]) if several else "",
               figures.over_m(members, lines, span, margin))
        for key, members in panels.items()
    ]  # fmt: skip
    return _section("Speedup over M", f"One Linear y[M, N] = x[M, K] W[N, K]ᵀ. Bands are 95 % intervals, the grey "
                    f"band is ±{margin:.0%}, open circles are break-evens.", legend(lines) + _grid(html))  # fmt: skip


def heatmap_section(runs: pd.DataFrame) -> str:
    """Verdicts over M and K x N."""
    panels = heatmaps(runs)
    if not panels:
        return ""
    return _section("Verdicts over shapes", "The number is the speedup. Blank: not measured.",
                    _verdict_legend(hatched=True) + _grid(panels, wide=True))  # fmt: skip


def protocol_section(runs: pd.DataFrame, found: Provenance, margin: float) -> str:
    """How it was measured."""
    outcomes = ", ".join(f"{count} {name}" for name, count in runs["outcome"].value_counts().items())
    pairs = [
        ("Runs", f"{len(runs)} ({outcomes})"),
        ("Devices", "; ".join(dict.fromkeys(runs["device"]))),
        (
            "Measured",
            f"{runs['started_at'].min():%Y-%m-%d %H:%M} to {runs['started_at'].max():%Y-%m-%d %H:%M} UTC",
        ),
        ("Verdict", f"helps or hurts when the whole interval lies beyond ±{margin:.0%}, neutral inside"),
        (
            "Pairing",
            ", ".join(f"{count} {name}" for name, count in found.pairing.items()) or "not recorded here",
        ),
        ("Ended by", ", ".join(f"{count} {name}" for name, count in found.stopped_by.items())),
        *((name, ", ".join(values[:4])) for name, values in found.versions.items()),
    ]
    return _section("How it was measured", "Baseline and treatment run the same weights and inputs in one process, "
                    "in alternating rounds; the estimate is their paired ratio with a bootstrap interval.",
                    definitions([pair for pair in pairs if pair[1]]))  # fmt: skip


def _section(title: str, note: str, body: str) -> str:
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{body}</section>"


def _verdict_table(runs: pd.DataFrame) -> str:
    several = runs["device"].nunique() > 1
    heads = ["Workload", "Treatment", *(["Device"] if several else []), "Verdict", "Speedup", "Baseline ms",
             "Treated ms", "Memory saved", "SQNR dB", "Why"]  # fmt: skip
    return table(heads, [_verdict_row(row, several) for _, row in verdict_table(runs).iterrows()])


def _verdict_row(row: Row, with_device: bool) -> list[Cell]:
    span = f" <small>{interval_text(row)}</small>" if row["verdict"] else ""
    speedup = float(row["speedup/median"]) if row["verdict"] else None
    return [
        Cell(f'<span class="nowrap">{escape(workload_text(row))}</span>', _workload_order(row)),
        text_cell(treatment_text(row)),
        *([text_cell(row["device"])] if with_device else []),
        Cell(chip(status(row)), _RANK.get(status(row), len(_RANK))),
        Cell(f"{speedup_text(row)}{span}", speedup, number=True),
        number_cell(milliseconds(row["latency/baseline_median_ms"]), row["latency/baseline_median_ms"]),
        number_cell(milliseconds(row["latency/median_ms"]), row["latency/median_ms"]),
        number_cell(percent(row["memory/saved"]), row["memory/saved"]),
        number_cell(decibels(row["quality/sqnr_db"]), row["quality/sqnr_db"]),
        Cell(_why(row)),
    ]


def _workload_order(row: Row) -> str:
    sizes = (row[name] for name in ("resolution", "batch", "K", "N", "M"))
    return f"{row['model']} {row['target']} " + " ".join(f"{0 if pd.isna(s) else s:07d}" for s in sizes)


def _why(row: Row) -> str:
    if not row["reason"]:
        return ""
    remedy = f" <em>→ {escape(row['remedy'])}</em>" if row["remedy"] else ""
    return f'<span class="why">{escape(row["reason"])}{remedy}</span>'


def _breakeven_row(row: Row, several: list[str]) -> list[Cell]:
    m: float | None = row["m"] if pd.notna(row["m"]) else None
    best = f"{row['best']:.2f}× at M = {row['best_m']}"
    verdict = chip(row["case"]) + " " if row["case"] in VERDICTS else ""
    return [
        *(text_cell(str(row[name])) for name in several),
        text_cell(treatment_text(row)),
        *(number_cell(str(row[name]), int(row[name])) for name in ("K", "N")),
        number_cell("" if m is None else f"{m:,.0f}", m),
        Cell(f"{verdict}{escape(row['says'])}", row["case"]),
        number_cell(best, float(row["best"])),
    ]


def _verdict_legend(hatched: bool = False) -> str:
    items = "".join(chip(name) for name in VERDICTS)
    did_not_run = (
        '<span class="key"><i class="box hatched"></i>did not run (hover for why)</span>' if hatched else ""
    )
    return f'<p class="legend">{items}{did_not_run}</p>'


def _panel(title: str, beside: str, figure: Any) -> str:
    note = f" <small>{escape(beside)}</small>" if beside else ""
    return f'<figure class="panel"><figcaption>{escape(title)}{note}</figcaption>{_plot(figure)}</figure>'


def _plot(figure: Any) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG))


def _grid(panels: list[str], *, wide: bool = False) -> str:
    return f'<div class="grid{" wide" if wide else ""}">{"".join(panels)}</div>'
