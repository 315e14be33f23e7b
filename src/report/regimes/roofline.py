"""The roofline in the report: TFLOP/s over FLOP per byte of measured Linear layers, under the device's ceilings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from src.regimes.rooflines import BASELINE, Roofline, rooflines
from src.report.graphics.described import Figure
from src.report.graphics.markup import legend
from src.report.graphics.palette import Line, scheme_lines, translucent
from src.report.runs.filters import Filters
from src.report.runs.sections import most_panels, panel, section

_INK, _SOFT = "#30343A", "#8A8F98"
_UNQUANTIZED = "unquantized"
_BASELINE = Line(_INK, "circle", "solid")
_WIDTH, _HEIGHT = 420, 320  # px
_PLOT = _HEIGHT - 48.0  # px between the axes' ends
_LABEL = 13.0  # px from one label to the next
_AIR = 1.6  # beyond what is drawn, times
_FAR = 0.1  # of the roof: what reaches less is held up by something else
_MOST, _MOST_LINES = 12, 60  # figures; lines of one, of very many every second or third


def roofline_section(runs: pd.DataFrame, filters: Filters) -> str:
    """A figure and what it shows in words, for each place with ceilings; empty without any."""
    found = [*rooflines(runs)]
    lines = scheme_lines(_scheme(name) for each in found for name in each.points["quant"])
    body = "".join(_shown(each, lines, filters) for each in found[: min(_MOST, most_panels(runs))])
    note = (
        "What each measured Linear reaches, over how much it computes per byte that it moves (weights as stored, "
        "input and output). Lines are what the device itself was measured to reach: copying on the slope, "
        "multiplying under the ceilings."
    )
    return section("Roofline", note, body) if found else ""


def roofline(each: Roofline, lines: dict[str, Line]) -> Figure:
    """One place: slope, ceilings with their ridges, and the layers of one K x N and scheme joined over M."""
    figure, points = Figure(_HEIGHT), each.points
    top = max(each.tflop_s.values())
    xs = (
        points["intensity"].min() / _AIR,
        _AIR * max(points["intensity"].max(), _AIR * each.ridge(_highest(each))),
    )
    ys = (points["tflop_s"].min() / _AIR, top * _AIR**2)
    _add_roof(figure, each, xs, ys)
    _add_layers(figure, points, lines)
    figure.update_xaxes(**_log_axis(xs, "FLOP per byte moved"))
    figure.update_yaxes(**_log_axis(ys, "TFLOP/s"))
    return figure


def in_words(each: Roofline) -> Iterator[str]:
    """What the figure shows: where unquantized layers lie, then each scheme."""
    ridge, known = each.ridge(each.dtype), each.points[each.points["roof_tflop_s"].notna()]
    base = known[(known["quant"] == BASELINE) & (known["multiplies"] == each.dtype)]
    yield (
        f"Up to {_rate(ridge)} FLOP per byte the memory sets the limit ({_rate(each.gb_s)} GB/s), from there on "
        f"multiplying does ({each.dtype}: {_rate(each.tflop_s[each.dtype])} TFLOP/s)."
    )
    slope, flat = base[base["slope"]], base[~base["slope"]]
    told = [
        f"{_layers(part, base)} {where} and reach {_reached(part)} of it"
        for part, where in ((slope, "lie below the memory slope"), (flat, "lie below the ceiling"))
        if len(part)
    ]
    if told:
        cached = " (beyond 100 %: from a cache)" if (_share(slope) > 1).any() else ""
        yield f"Unquantized: {'; '.join(told)}{cached}."
    shares = {str(quant): _share(rows) for quant, rows in known[known["quant"] != BASELINE].groupby("quant")}
    ordered = sorted(shares, key=lambda quant: -shares[quant].median())
    if ordered:
        listed = ", ".join(f"{quant} {_percents(shares[quant])}" for quant in ordered)
        yield f"Quantized, of the roof above each layer, the nearest first: {listed}."
    far = [quant for quant in ordered if shares[quant].max() < _FAR]
    if far:
        stay, them = ("stay", "them") if len(far) > 1 else ("stays", "it")
        below = f"{stay} below {_FAR:.0%} of it in every layer measured"
        yield f"{', '.join(far)} {below}: neither memory nor multiplying holds {them} up."


def _shown(each: Roofline, lines: dict[str, Line], filters: Filters) -> str:
    """One figure with its legend, and the words below."""
    title = f"{each.device}, compile={each.compile}"
    title += f", {each.dtype}" if each.dtype != "bfloat16" else ""
    own = filters.attribute({"device": each.device, "dtype": each.dtype}, "device", "dtype")
    schemes = {_scheme(name) for name in each.points["quant"]} - {BASELINE}
    keys = legend({_UNQUANTIZED: _BASELINE} | lines, {_UNQUANTIZED, *schemes})
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in in_words(each))
    drawn = panel(title, "", roofline(each, lines), width=_WIDTH)
    return f'<div class="beside"{own}><div>{drawn}</div><div>{keys}{words}</div></div>'


def _add_roof(figure: Figure, each: Roofline, xs: tuple[float, float], ys: tuple[float, float]) -> None:
    """The slope up to the highest ceiling, and from its ridge on each ceiling; labels left of them, apart."""
    highest = each.ridge(_highest(each))
    start = max(xs[0], ys[0] * 1e3 / each.gb_s)
    figure.add_scatter(
        x=[start, highest], y=[start * each.gb_s / 1e3, highest * each.gb_s / 1e3], mode="lines",
        line={"color": _INK, "width": 1.5},
    )  # fmt: skip
    ordered = sorted(each.tflop_s, key=lambda name: each.tflop_s[name])
    for name in ordered:
        ridge, ceiling = each.ridge(name), each.tflop_s[name]
        own = name == each.dtype
        figure.add_scatter(
            x=[ridge, xs[1]], y=[ceiling, ceiling], mode="lines",
            line={"color": _INK if own else _SOFT, "width": 1.5, "dash": "solid" if own else "dash"},
        )  # fmt: skip
        figure.add_scatter(
            x=[ridge], y=[ceiling], mode="markers",
            marker={"color": "white", "symbol": "diamond", "size": 7, "line": {"color": _INK, "width": 1.2}},
            hovertemplate=f"ridge of {name}: {_rate(ridge)} FLOP per byte, {_rate(ceiling)} TFLOP/s",
        )  # fmt: skip
    figure.add_scatter(
        x=[each.ridge(each.dtype)] * 2, y=[ys[0], each.tflop_s[each.dtype]], mode="lines",
        line={"color": _SOFT, "width": 1, "dash": "dot"},
    )  # fmt: skip
    figure.add_scatter(
        x=[each.ridge(name) for name in ordered], y=_apart([each.tflop_s[name] for name in ordered], ys),
        mode="text", text=[f"{name} {_rate(each.tflop_s[name])}" for name in ordered], textposition="middle left",
    )  # fmt: skip


def _add_layers(figure: Figure, points: pd.DataFrame, lines: dict[str, Line]) -> None:
    """Those of one K x N and scheme as a line over M; of very many lines some."""
    groups = [*points.groupby(["quant", "K", "N"])]
    for (quant, _, _), rows in groups[:: math.ceil(len(groups) / _MOST_LINES)]:
        ordered, base = rows.sort_values("M"), quant == BASELINE
        line = _BASELINE if base else lines[_scheme(str(quant))]
        white = {"color": "white", "width": 1}
        figure.add_scatter(
            x=ordered["intensity"], y=ordered["tflop_s"], mode="lines+markers",
            line={"color": _SOFT if base else translucent(line.colour, 0.5), "width": 1, "dash": line.dash},
            marker={"color": line.colour, "symbol": line.symbol, "size": 7, "line": white},
            customdata=[_text(row) for row in ordered.to_dict("records")],
        )  # fmt: skip


def _log_axis(ends: tuple[float, float], title: str) -> dict[str, Any]:
    return {"type": "log", "range": [math.log10(end) for end in ends], "tickformat": ",g", "title": title}


def _apart(heights: Sequence[float], ys: tuple[float, float]) -> list[float]:
    """Where labels of lines at these heights, rising, stand: a little above, and not over each other."""
    step = (ys[1] / ys[0]) ** (_LABEL / _PLOT)
    found: list[float] = []
    for height in heights:
        found.append(max(height * step**0.4, found[-1] * step if found else 0.0))
    return found


def _highest(each: Roofline) -> str:
    return max(each.tflop_s, key=lambda name: each.tflop_s[name])


def _scheme(quant: str) -> str:
    return quant.partition(" (")[0]


def _share(rows: pd.DataFrame) -> "pd.Series[float]":
    found: pd.Series[float] = rows["tflop_s"] / rows["roof_tflop_s"]
    return found


def _rate(value: float) -> str:
    """Three digits, and all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percents(shares: "pd.Series[float]") -> str:
    """``31–46 %``; of small ones two digits."""
    low, high = (_percent(value) for value in (shares.min(), shares.max()))
    return f"{low} %" if low == high else f"{low}–{high} %"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= _FAR else f"{100 * share:.2g}"


def _reached(rows: pd.DataFrame) -> str:
    return _percents(_share(rows))


def _layers(part: pd.DataFrame, base: pd.DataFrame) -> str:
    """``all layers``, ``those of M ≤ 64``, or how many where M does not tell them apart."""
    if len(part) == len(base):
        return "all layers"
    other = base.drop(part.index)
    if part["M"].max() < other["M"].min():
        return f"layers of M ≤ {part['M'].max():,}"
    if part["M"].min() > other["M"].max():
        return f"layers of M ≥ {part['M'].min():,}"
    return f"{len(part)} of {len(base)} layers"


def _text(row: Mapping[Any, Any]) -> str:
    """One layer in a few lines."""
    name = _UNQUANTIZED if row["quant"] == BASELINE else escape(str(row["quant"]))
    what = "memory slope" if row["slope"] else f"{row['multiplies']} ceiling"
    roof = float(row["roof_tflop_s"])
    below = "" if math.isnan(roof) else f"<br>{row['tflop_s'] / roof:.0%} of the {what}"
    shape = f"{row['M']}×{row['K']}×{row['N']}"
    return f"{name} {shape}<br>{row['tflop_s']:.3g} TFLOP/s at {row['intensity']:.3g} FLOP per byte{below}"
