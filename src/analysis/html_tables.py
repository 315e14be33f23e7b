"""The report's tables: verdicts and break-even shapes, a function from rows to HTML each."""

from html import escape

import pandas as pd

from src.analysis.frame import Row
from src.analysis.markup import Cell, chip, number_cell, table, text_cell
from src.analysis.palette import VERDICTS
from src.analysis.shapes import bounds, number
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

_RANK = {name: rank for rank, name in enumerate(VERDICTS)}
_AROUND = {"up": "slower below, faster above", "down": "faster below, slower above"}


def verdicts_html(runs: pd.DataFrame) -> str:
    """One row per run; the device is named where there are several."""
    device = ["Device"] if runs["device"].nunique() > 1 else []
    heads = [
        "Workload",
        "Treatment",
        *device,
        "Verdict",
        "Speedup",
        "Latency, ms",
        "Memory saved",
        "SQNR, dB",
    ]
    rows = [_verdict_row(row, with_device=bool(device)) for _, row in verdict_table(runs).iterrows()]
    return table([*heads, "Why"], rows)


def breakeven_html(breakeven: pd.DataFrame) -> str:
    """One row per crossing, and one per curve that has none."""
    several = [name for name in ("device", "dtype") if breakeven[name].nunique() > 1]
    heads = [
        *map(str.capitalize, several),
        "Treatment",
        "K",
        "N",
        "Break-even M",
        "What it does",
        "Largest speedup",
    ]
    return table(heads, [_breakeven_row(row, several) for _, row in breakeven.iterrows()])


def _verdict_row(row: Row, *, with_device: bool) -> list[Cell]:
    common = [
        Cell(f'<span class="nowrap">{escape(workload_text(row))}</span>', _workload_order(row)),
        Cell(f'<span class="nowrap">{escape(treatment_text(row))}</span>', treatment_text(row)),
        *([text_cell(row["device"])] if with_device else []),
        Cell(chip(status(row)), _RANK.get(status(row), len(_RANK))),
    ]
    if not row["verdict"]:
        return [*common, Cell(_why(row), columns=5)]
    span = f" <small>{interval_text(row)}</small>"
    return [
        *common,
        Cell(f"{speedup_text(row)}{span}", float(row["speedup/median"]), number=True),
        _latency(row),
        number_cell(percent(row["memory/saved"]), row["memory/saved"]),
        number_cell(decibels(row["quality/sqnr_db"]), row["quality/sqnr_db"]),
        Cell(_why(row), row["reason"] or None),
    ]


def _workload_order(row: Row) -> str:
    sizes = (row[name] for name in ("resolution", "batch", "K", "N", "M"))
    return f"{row['model']} {row['target']} " + " ".join(f"{0 if pd.isna(s) else s:07d}" for s in sizes)


def _latency(row: Row) -> Cell:
    """Baseline and treated arm, sorted by the treated one."""
    base, treated = (milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", ""))
    return Cell(f"<small>{base} →</small> {treated}", float(row["latency/median_ms"]), number=True)


def _why(row: Row) -> str:
    if not row["reason"]:
        return ""
    remedy = f" <em>→ {escape(row['remedy'])}</em>" if row["remedy"] else ""
    return f'<span class="why">{escape(row["reason"])}{remedy}</span>'


def _breakeven_row(row: Row, several: list[str]) -> list[Cell]:
    verdict = chip(row["case"]) + " " if row["case"] in VERDICTS else ""
    return [
        *(text_cell(str(row[name])) for name in several),
        Cell(f'<span class="nowrap">{escape(treatment_text(row))}</span>', treatment_text(row)),
        *(number_cell(str(row[name]), int(row[name])) for name in ("K", "N")),
        _breakeven_m(row),
        Cell(f'<span class="does">{verdict}{escape(_does(row))}</span>', row["case"]),
        number_cell(f"{row['best']:.2f}× at M = {row['best_m']}", float(row["best"])),
    ]


def _breakeven_m(row: Row) -> Cell:
    if pd.isna(row["m"]):
        return Cell("", None, number=True)
    span = bounds(row["m_low"], row["m_high"], row["low_open"], row["high_open"])
    return Cell(f"{number(row['m'])} <small>{span}</small>", float(row["m"]), number=True)


def _does(row: Row) -> str:
    """What a curve does, without the M that stands beside it."""
    if pd.isna(row["m"]):
        return str(row["says"]).removeprefix(f"{row['case']} " if row["case"] in VERDICTS else "")
    does = _AROUND[row["direction"]]
    return does if row["decided"] else f"{does}, but not beyond the margin on both sides"
