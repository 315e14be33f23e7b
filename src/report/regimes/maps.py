"""Regime maps in the report: M over K x N per scheme, with the verdicts measured and predicted and models' layers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from src.forecasts.evidence.cells import OWN, evenly
from src.forecasts.forecast import Place
from src.forecasts.models.layers import ModelLayer
from src.regimes.features import millions, whole
from src.regimes.maps import Ground, RegimeMap, grounds, inside, map_cells, regime_maps
from src.regimes.regimes import Regimes
from src.report.graphics.described import Figure
from src.report.graphics.marks import hollow
from src.report.graphics.markup import number_cell, table, text_cell
from src.report.graphics.palette import look, translucent
from src.report.runs.filters import Filters
from src.report.runs.sections import grid, most_panels, panel, section, verdict_legend

_MOST_MAPS, _MOST_CELLS = 24, 100  # of a section, of a map
_SYMBOLS = ("circle", "square", "diamond")  # of the newest models; more are not drawn
_SMALL = 300  # px
_INK = "#30343A"
_RING, _LARGEST = 7.0, 30.0  # px of a layer that takes no time, and of one that takes all
_OWN_MARK, _PUBLISHED_MARK = 8, 6  # px
_TINT = 0.16
_FEW_TICKS = 2
_ELSEWHERE = "published elsewhere"


@dataclass(frozen=True)
class Shown:
    """The maps of a page, with what is predicted of their ground."""

    maps: list[tuple[RegimeMap, list[Ground]]]
    left: int = 0  # more maps, of which the page has none
    published: bool = False  # whether there are cells from elsewhere


def maps_with_ground(found: Regimes, runs: pd.DataFrame, margin: float, kept: Path | None = None) -> Shown:
    """The first maps; what takes the time is hardly Python's, so that a thread beside may do it.

    Args:
        found: with what predicts their ground.
        runs: standing ones.
        margin: a speedup within it is neutral.
        kept: the folder of what analyses keep; None: nothing is kept.
    """
    cells = map_cells(runs, found.map_cells, margin)
    maps, most = [*regime_maps(cells, found.layers)], min(_MOST_MAPS, most_panels(runs))
    shown = maps[:most]
    drawn = zip(shown, grounds(shown, found.knowledge, kept), strict=True)
    return Shown([*drawn], len(maps) - len(shown), bool((cells["source"] != OWN).any()))


def regime_maps_section(shown: Shown, filters: Filters) -> str:
    """The maps of each place below each other; empty where no single layer has a speedup."""
    body = "".join(
        _of_place(place, [*members], filters)
        for place, members in groupby(shown.maps, lambda each: each[0].place)
    )
    more = f" {shown.left:,} more maps would be of what verdicts.csv has." if shown.left else ""
    note = "One mark per layer shape: what quantizing this Linear alone gains."
    note += f" Small marks were {_ELSEWHERE}, single samples." if shown.published else ""
    note += " Tinted ground is predicted for square layers (K = N) near them; blank is unknown."
    rings = any(each.layers for each, _ in shown.maps)
    note += " Rings are a model's own layers, larger the more of its time they take." if rings else ""
    return section("Regime map", note + more, verdict_legend() + body) if shown.maps else ""


def regime_map(each: RegimeMap, ground: Sequence[Ground]) -> Figure:
    """M over K x N of one scheme: predicted ground, rings of models' layers, measured cells on top."""
    figure, shown = Figure(280), evenly(each.cells, _MOST_CELLS)
    for piece in ground:
        tint = translucent(look(piece.verdict).ink, _TINT)
        figure.add_shape((piece.x0, piece.x1), (piece.y0, piece.y1), fillcolor=tint)
    _add_rings(figure, each.layers)
    for source in (False, True):  # own ones on top
        rows = shown[(shown["source"] == OWN) == source]
        for status, part in rows.groupby("status"):
            style = look(str(status))
            figure.add_scatter(
                x=part["K"] * part["N"], y=part["M"], mode="markers",
                marker={"color": style.ink, "symbol": style.symbol, "size": _OWN_MARK if source else _PUBLISHED_MARK,
                        "line": {"color": "white", "width": 0.7}},
                customdata=[_cell_text(row) for row in part.to_dict("records")],
            )  # fmt: skip
    kn_ticks, m_ticks = _ticks(each.kn_span), _ticks(each.m_span)
    figure.update_xaxes(
        type="log", range=[math.log10(end) for end in each.kn_span], tickvals=kn_ticks,
        ticktext=[millions(tick) for tick in kn_ticks], title="K×N (weights)",
    )  # fmt: skip
    figure.update_yaxes(
        type="log", range=[math.log10(end) for end in each.m_span], tickvals=m_ticks,
        ticktext=[whole(tick) for tick in m_ticks], title="M (rows of the input)",
    )  # fmt: skip
    return figure


def coverage(layers: Sequence[ModelLayer], cells: pd.DataFrame) -> Iterator[str]:
    """Of each model how many of its shapes lie where single layers were measured."""
    ms, kn = _range(cells["M"], whole), _range(cells["K"] * cells["N"], millions)
    for model, of_model in _by_model(layers).items():
        among = inside(of_model, cells)
        lie = f"{len(among)} of the {len(of_model)} shapes of {model}" if among else f"No shape of {model}"
        shares = [sum(each.share for each in part) for part in (among, of_model)]
        known = among and math.isfinite(shares[1]) and shares[1] > 0
        told = f", {shares[0] / shares[1]:.0%} of its Linear layers' time," if known else ""
        rows, why = [each.M for each in of_model], ""
        if min(rows) > cells["M"].max():
            why = f": all have more rows (M = {_range(pd.Series(rows), whole)})"
        verb = "lie" if len(among) > 1 else "lies"
        yield f"{lie}{told} {verb} within what was measured, M = {ms} and K×N = {kn}{why}."


def _of_place(place: Place, maps: list[tuple[RegimeMap, list[Ground]]], filters: Filters) -> str:
    """The maps of one device, compile mode and dtype, and what is to be said of the models on them."""
    title = f"{place.device}, compile={place.compile}"
    title += f", {place.dtype}" if place.dtype != "bfloat16" else ""
    drawn = []
    for each, ground in maps:
        row = {"device": place.device, "dtype": place.dtype, "quant": each.quant.partition(" (")[0]}
        own = filters.attribute(row, "device", "dtype", "scheme")
        drawn.append(panel(each.quant, "", regime_map(each, ground), own, width=_SMALL))
    layers = maps[0][0].layers
    measured = pd.concat([each.cells for each, _ in maps]).dropna(subset="speedup")
    told = "".join(f'<p class="map-words">{escape(line)}</p>' for line in coverage(layers, measured))
    return f"<h3>{escape(title)}</h3>{told}{_legend(layers)}{grid(drawn)}{_layers_table(layers)}"


def _legend(layers: Sequence[ModelLayer]) -> str:
    """Which model's layers a ring is of."""
    items = "".join(
        f'<span class="key">{hollow(symbol)}layers of {escape(model)}</span>'
        for symbol, model in zip(_SYMBOLS, _by_model(layers), strict=False)
    )
    return f'<p class="legend">{items}</p>' if items else ""


def _add_rings(figure: Figure, layers: Sequence[ModelLayer]) -> None:
    """Hollow marks, the largest first so that smaller ones can be pointed at; a symbol per model."""
    for symbol, of_model in zip(_SYMBOLS, _by_model(layers).values(), strict=False):
        ordered = sorted(of_model, key=lambda each: -_size(each))
        figure.add_scatter(
            x=[each.K * each.N for each in ordered], y=[each.M for each in ordered], mode="markers",
            marker={"color": "rgba(0,0,0,0)", "symbol": symbol, "size": [_size(each) for each in ordered],
                    "line": {"color": _INK, "width": 1.2}},
            customdata=[_layer_text(each) for each in ordered],
        )  # fmt: skip


def _by_model(layers: Sequence[ModelLayer]) -> dict[str, list[ModelLayer]]:
    """The first few models' layers."""
    names = [*dict.fromkeys(each.model for each in layers)][: len(_SYMBOLS)]
    return {name: [each for each in layers if each.model == name] for name in names}


def _size(each: ModelLayer) -> float:
    """Px: the ring's area grows with the share of time."""
    return _RING + (_LARGEST - _RING) * math.sqrt(each.share) if math.isfinite(each.share) else _RING


def _layer_text(each: ModelLayer) -> str:
    share = f", {each.share:.1%} of a call" if math.isfinite(each.share) else ""
    shape = f"{each.calls} × {each.M}×{each.K}×{each.N}{share}"
    return "<br>".join([escape(each.model), escape(each.names), shape])


def _cell_text(row: Mapping[Any, Any]) -> str:
    shape, status = f"{row['M']}×{row['K']}×{row['N']}", str(row["status"])
    if pd.isna(row["speedup"]):
        return escape(f"{shape}: {status}: {row['reason']}")
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.2f}–{row['high']:.2f})"
    where = "" if row["source"] == OWN else f", {_ELSEWHERE} ({row['source']}), a single sample"
    return escape(f"{shape}: {row['speedup']:.2f}×{interval} {status}{where}")


def _layers_table(layers: Sequence[ModelLayer]) -> str:
    """All rings as a table: what a reader is told who does not see them."""
    heads, of_models = ["Model", "Layers", "M×K×N", "Calls", "Share of a call"], _by_model(layers)
    rows = [
        [
            text_cell(each.model),
            text_cell(each.names),
            text_cell(f"{each.M}×{each.K}×{each.N}"),
            number_cell(str(each.calls), each.calls),
            number_cell(f"{each.share:.1%}" if math.isfinite(each.share) else "", each.share),
        ]
        for of_model in of_models.values()
        for each in sorted(of_model, key=lambda each: -_size(each))
    ]
    shown = f"<summary>The {len(rows)} layer shapes of {escape(', '.join(of_models))}</summary>"
    return f"<details>{shown}{table(heads, rows)}</details>" if rows else ""


def _range(values: "pd.Series[int]", text: Callable[[float], str]) -> str:
    low, high = (text(float(value)) for value in (values.min(), values.max()))
    return low if low == high else f"{low}–{high}"


def _ticks(span: tuple[float, float]) -> list[float]:
    """Powers of ten, or between them too where these are few."""
    low, high = span
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        found = [step * 10.0**power for power in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) > _FEW_TICKS:
            break
    return found
