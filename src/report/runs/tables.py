"""The report's tables: verdicts and break-even shapes, a function from rows to HTML each."""

from collections.abc import Callable
from functools import partial
from html import escape

import numpy as np
import pandas as pd

from src.analysis.crossing_words import in_row
from src.analysis.runs.frame import Plain, plain
from src.analysis.verdicts import (
    IMAGE_QUALITY,
    decibels,
    image_metrics,
    interval_text,
    milliseconds,
    percent,
    speedup_text,
    status,
    treatment_text,
    verdict_table,
    workload_text,
)
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.graphics.palette import VERDICTS
from src.report.runs.filters import Filters
from src.report.runs.links import RunLinks

_MOST_ROWS, _NEWEST = 400, 100  # of a table; of one with more runs than that
_MOST_GROUPS, _MOST_BREAKEVENS = 150, 150
_GROUP = ["device", "model", "dtype", "quant"]
_RANK = {name: rank for rank, name in enumerate(VERDICTS)}
_AROUND = {"up": "slower below, faster above", "down": "faster below, slower above"}


def verdicts_html(runs: pd.DataFrame, filters: Filters, links: RunLinks) -> str:
    """One row per run, a table per device; of very many the first, the CSV has all."""
    every = runs
    if len(every) > _MOST_ROWS:
        runs = every.loc[every["started_at"].nlargest(_NEWEST).index]
    images = image_metrics(runs)
    heads = ["Workload", "Treatment", "Verdict", "Speedup", "Latency, ms", "Memory saved", "SQNR, dB",
             *(IMAGE_QUALITY[name][0] for name in images), "Why"]  # fmt: skip
    row = partial(_verdict_row, images=images, links=links)

    def rows_of(rows: pd.DataFrame) -> str:
        ordered = verdict_table(rows)
        attributes = [f" data-run{filters.attribute(each)}" for each in plain(ordered)]
        return table(heads, _each(ordered, row), attributes)

    if len(every) == len(runs):
        return per_device(runs, rows_of)
    told = f"The newest {len(runs):,} of {len(every):,} runs; all are in"
    return (
        f'{grouped_html(every, filters)}<p class="note">{told} <a href="verdicts.csv">verdicts.csv</a>.</p>'
        f"{per_device(runs, rows_of)}"
    )


def grouped_html(runs: pd.DataFrame, filters: Filters) -> str:
    """Very many runs in one row per device, model and scheme: how many say what, and the speedups' middle half.

    Of the speedups those count that nothing put in doubt.
    """
    grouped = runs.groupby(_GROUP, sort=False)
    counts = (
        grouped["verdict"].value_counts().unstack(fill_value=0).reindex(columns=[*VERDICTS, ""], fill_value=0)
    )
    quiet = runs.assign(quiet=runs["speedup/ratio"].where(~runs["withheld"])).groupby(_GROUP, sort=False)
    spread = quiet["quiet"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    heads = [
        "Device",
        "Model",
        "Dtype",
        "Scheme",
        *VERDICTS,
        "not compared",
        "Speedup, median and middle half",
    ]
    cells, attributes = [], []
    for names in order[:_MOST_GROUPS]:
        low, middle, high = spread.loc[names]
        told = f"{middle:.2f}× <small>{low:.2f}–{high:.2f}</small>" if pd.notna(middle) else ""
        numbers = [number_cell(f"{count:,}" if count else "", int(count)) for count in counts.loc[names]]
        speedup = Cell(told, float(middle) if told else None, number=True)
        cells.append([*map(text_cell, names), *numbers, speedup])
        row = dict(zip(("device", "model", "dtype", "quant"), names, strict=True))
        attributes.append(filters.attribute(row, "device", "model", "dtype", "scheme"))
    left = len(order) - len(cells)
    more = f'<p class="note">{left:,} more groups, of fewer runs, are left out.</p>' if left else ""
    return table(heads, cells, attributes) + more


def breakeven_html(breakeven: pd.DataFrame, filters: Filters) -> str:
    """One row per crossing, and one per curve that has none; a table per device."""
    dtype = ["Dtype"] if breakeven["dtype"].nunique() > 1 else []
    heads = ["Treatment", *dtype, "K", "N", "Break-even M", "What it does", "By verdicts", "Largest speedup"]
    row = partial(_breakeven_row, with_dtype=bool(dtype))

    def rows_of(rows: pd.DataFrame) -> str:
        names = ("model", "device", "dtype", "scheme")
        return table(heads, _each(rows, row), [filters.attribute(each, *names) for each in plain(rows)])

    left = len(breakeven) - _MOST_BREAKEVENS
    more = (
        f'<p class="note">{left:,} more in <a href="breakeven.csv">breakeven.csv</a>.</p>' if left > 0 else ""
    )
    return per_device(breakeven.head(_MOST_BREAKEVENS), rows_of) + more


def per_device(frame: pd.DataFrame, html: Callable[[pd.DataFrame], str]) -> str:
    """HTML of each device's rows, under its name where there are several."""
    if frame["device"].nunique() == 1:
        return html(frame)
    return "".join(f"<h3>{escape(str(device))}</h3>{html(rows)}" for device, rows in frame.groupby("device"))


def _each(frame: pd.DataFrame, cells: Callable[[Plain], list[Cell]]) -> list[list[Cell]]:
    return [cells(row) for row in plain(frame)]


def _verdict_row(row: Plain, *, images: list[str], links: RunLinks) -> list[Cell]:
    common = [
        Cell(f'<div class="label">{escape(workload_text(row))}{links.html(row)}</div>', _workload_order(row)),
        Cell(f'<span class="label">{escape(treatment_text(row))}</span>', treatment_text(row)),
        Cell(chip(status(row)), _RANK.get(status(row), len(_RANK))),
    ]
    if not row["verdict"]:
        return [*common, Cell(_why(row), columns=5 + len(images))]
    span = f' <small title="{escape(row["interval"])}">{interval_text(row)}{_other_speedups(row)}</small>'
    return [
        *common,
        Cell(f"{speedup_text(row)}{span}", float(row["speedup/ratio"]), number=True),
        _latency(row),
        number_cell(percent(row["memory/saved"]), row["memory/saved"]),
        number_cell(decibels(row["quality/sqnr_db"]), row["quality/sqnr_db"]),
        *(number_cell(IMAGE_QUALITY[name][1](row[name]), row[name]) for name in images),
        Cell(_why(row), row["reason"] or None),
    ]


def _other_speedups(row: Plain) -> str:
    """Against the run's own dtype, and against the fastest compile mode, where these are other baselines."""
    found = []
    if row["baseline_dtype"] not in ("", row["dtype"]):
        found.append(f"{row['speedup_same_dtype/ratio']:.2f}× against {row['dtype']}")
    if row["fastest_mode"] not in (None, "", row["compile"]) and pd.notna(row["speedup/fastest_mode"]):
        found.append(f"{row['speedup/fastest_mode']:.2f}× against compile={row['fastest_mode']}")
    return "".join(f'<span class="also">{escape(text)}</span>' for text in found)


def _workload_order(row: Plain) -> str:
    sizes = (row[name] for name in ("resolution", "frames", "batch", "K", "N", "M"))
    return f"{row['model']} {row['target']} " + " ".join(f"{0 if pd.isna(s) else s:07d}" for s in sizes)


def _latency(row: Plain) -> Cell:
    """Baseline and treated arm, sorted by the treated one."""
    base, treated = (milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", ""))
    return Cell(f"<small>{base} →</small> {treated}", float(row["latency/median_ms"]), number=True)


def _why(row: Plain) -> str:
    if not row["reason"]:
        return ""
    remedy = f" <em>→ {escape(row['remedy'])}</em>" if row["remedy"] else ""
    return f'<span class="why">{escape(row["reason"])}{remedy}</span>'


def _breakeven_row(row: Plain, *, with_dtype: bool) -> list[Cell]:
    verdict = chip(row["case"]) + " " if row["case"] in VERDICTS else ""
    return [
        Cell(f'<span class="label">{escape(treatment_text(row))}</span>', treatment_text(row)),
        *([text_cell(row["dtype"])] if with_dtype else []),
        *(number_cell(str(row[name]), int(row[name])) for name in ("K", "N")),
        _breakeven_m(row),
        Cell(f'<span class="does">{verdict}{escape(_does(row))}</span>', row["case"]),
        Cell(f'<span class="does">{escape(row["ranges"])}</span>', row["ranges"]),
        _best(row),
    ]


def _best(row: Plain) -> Cell:
    span = f"<small>{row['best_low']:.2f}–{row['best_high']:.2f} at M = {row['best_m']}</small>"
    return Cell(f"{row['best']:.2f}× {span}", float(row["best"]), number=True)


def _breakeven_m(row: Plain) -> Cell:
    if pd.isna(row["m"]):
        return Cell("", None, number=True)
    span, line = in_row(row)
    told = f'<span class="part">{span}</span> <small class="part">{line}</small>'
    return Cell(told, float(row["m"]), number=True)


def _does(row: Plain) -> str:
    """What a curve does, without the M that stands beside it."""
    if pd.isna(row["m"]):
        return str(row["says"]).removeprefix(f"{row['case']} " if row["case"] in VERDICTS else "")
    does = _AROUND[row["direction"]]
    return does if row["decided"] else f"{does}, but not beyond the margin on both sides"
