"""Verdicts over M and K x N, as HTML tables: a colour and a number per cell, blank where nothing was measured."""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from operator import itemgetter

import pandas as pd

from src.analysis.runs.frame import PLACE, Plain, layer_level, newest_of_shapes, plain
from src.analysis.verdicts import interval_text, status
from src.report.graphics.palette import look
from src.report.runs.filters import Filters

_MOST_CELLS = 1500  # of all panels; of a panel with more the first
_NARROW = 7  # columns of a panel that a third of the page holds
_LINE = ["K", "N", "model", "target"]  # what a line of a panel is of


def heatmaps(runs: pd.DataFrame, filters: Filters) -> tuple[list[str], int]:
    """One panel per scheme x compile mode x device, and how many more there would be: of many cells the first."""
    return maps(layer_level(runs), filters)


def maps(layers: pd.DataFrame, filters: Filters) -> tuple[list[str], int]:
    """`heatmaps` of runs of one Linear, of whatever task."""
    layers = layers[layers["quant"] != "none"]
    several = {name: layers[name].nunique() > 1 for name in ("device", "dtype")}
    layers = newest_of_shapes(layers)
    panels, places = [], layers.groupby(PLACE).ngroup()
    sizes = places.value_counts().sort_index()
    shown = max(1, int((sizes.cumsum() <= _MOST_CELLS).sum()))
    for values, rows in layers[places < shown].groupby(PLACE):
        names = dict(zip(PLACE, values, strict=True))
        title = f"{names['quant']} · {names['compile']}"
        title += f" ({names['variant']})" if names["variant"] else ""
        beside = [str(names[name]) for name, differs in several.items() if differs]
        own = filters.attribute(rows.iloc[0], "device", "dtype", "scheme")
        panels.append(_panel(title, ", ".join(beside), rows, own))
    return panels, max(0, len(sizes) - shown)


def width(layers: pd.DataFrame) -> str:
    """The size of a grid (`sections.grid`) whose panels hold a column for each M without being scrolled."""
    return "broad" if layers["M"].nunique() > _NARROW else "wide"


def _panel(title: str, beside: str, rows: pd.DataFrame, own: str) -> str:
    ms = sorted(int(m) for m in rows["M"].unique())
    head = "".join(f'<th scope="col">{m}</th>' for m in ms)
    ordered = rows.sort_values(_LINE, kind="stable")
    of = [name for name in ("model", "target") if rows[name].nunique() > 1]
    body = "".join(_line([*group], ms, of) for _, group in groupby(plain(ordered), key=itemgetter(*_LINE)))
    note = f" <small>{escape(beside)}</small>" if beside else ""
    return (
        f'<figure class="panel"{own}><figcaption>{escape(title)}{note}</figcaption><div class="scroll">'
        f'<table class="heat"><thead><tr><th scope="col" class="corner">K×N \\ M</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></figure>"
    )


def _line(group: Sequence[Plain], ms: list[int], of: Sequence[str]) -> str:
    by_m = {int(row["M"]): row for row in group}
    cells = "".join(_cell(by_m.get(m)) for m in ms)
    first = group[0]
    names = f" <small>{escape(', '.join(str(first[name]) for name in of))}</small>" if of else ""
    return f'<tr><th scope="row">{first["K"]}×{first["N"]}{names}</th>{cells}</tr>'


def _cell(row: Plain | None) -> str:
    if row is None:
        return '<td class="blank" title="not measured"></td>'
    if not row["verdict"]:
        why = f"{row['outcome']}: {row['reason']}" + (f" → {row['remedy']}" if row["remedy"] else "")
        return (
            f'<td class="hatched" title="{escape(why)}"><span class="sr">{escape(row["outcome"])}</span></td>'
        )
    told = f"M = {row['M']}: {row['speedup/ratio']:.3f}× ({interval_text(row)}), {status(row)}"
    return f'<td style="background:{look(status(row)).tint}" title="{escape(told)}">{row["speedup/ratio"]:.2f}</td>'
