"""Whole models that were asked about, on the terminal and in the report: speedup, what it is from, its bound."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from src.forecasts.forecast import UNKNOWN
from src.forecasts.models.layers import asked_text
from src.forecasts.models.whole import Layers, Whole
from src.planning.teaching import sure_text
from src.report.graphics.described import Figure
from src.report.graphics.markup import Cell, chip, legend, number_cell, table, text_cell
from src.report.graphics.palette import scheme_lines, translucent
from src.report.runs.sections import panel, section

if TYPE_CHECKING:
    from src.forecasts.models.asked import AskedModel  # torch and the models' libraries

_MOST_SHAPES = 5  # on the terminal


def models_in_words(models: "Sequence[AskedModel]") -> Iterator[str]:
    """Of each asked run a sentence, what it rests on, and its layers that take longest."""
    for asked in models:
        yield f"Predicted: {named(asked)}: {_said(asked)}"
        if asked.whole is None:
            continue
        yield f"- {_shares(asked.whole)}"
        longest = sorted(
            (each for each in asked.whole.layers if each.quant), key=lambda each: -each.baseline_ms
        )
        yield from (f"- {_layers_text(each)}" for each in longest[:_MOST_SHAPES])
        if len(longest) > _MOST_SHAPES:
            yield f"- {len(longest) - _MOST_SHAPES} more shapes in predicted_layers.csv"
        yield from (f"- note: {note}" for note in asked.whole.notes)


def models_section(models: "Sequence[AskedModel]") -> str:
    """The asked runs as a section: a table, Amdahl's curves, the layers of each; empty without any."""
    if not models:
        return ""
    note = (
        "Sums over the model's Linear layers, each predicted from single layers, and the rest of its call. No "
        "quantized run of these models is in them. Intervals hold 90 % of what they predict."
    )
    drawn = [asked for asked in models if asked.whole and not math.isnan(asked.forecast.speedup)]
    lines = scheme_lines(asked.quant for asked in drawn)
    figures = legend(lines, lines) + panel(_CAPTION, "", amdahl(drawn), width=_WIDTH) if drawn else ""
    details = "".join(_details(asked) for asked in models if asked.whole)
    return section("Whole models, predicted", note, _table(models) + figures + details)


def named(asked: "AskedModel") -> str:
    """``flux-dev b1 1024px float8dq · regional (layers=field_default) on NVIDIA H200``."""
    cfg = asked.cfg
    rules = "" if cfg.quant.layers.name == "all" else f" (layers={cfg.quant.layers.name})"
    treatment = f"{asked.quant} · {cfg.compile.name}{rules}"
    return f"{asked_text(cfg)} {treatment} on {asked.place.device or 'this machine'}"


_WIDTH = 420  # px
_FAR = 3
_CAPTION = "The model's speedup over that of its quantized layers"


def amdahl(models: "Sequence[AskedModel]") -> Figure:
    """Speedup of the model over the speedup of its quantized layers, and the bound that it cannot pass."""
    figure, lines = Figure(340), scheme_lines(asked.quant for asked in models)
    wholes = [(asked, asked.whole) for asked in models if asked.whole]
    farthest = 2 * max(_of_layers(whole) for _, whole in wholes)
    xs = np.geomspace(min(0.5, *(_of_layers(whole) for _, whole in wholes)), max(4.0, farthest), 60)
    for asked, whole in wholes:
        line, share, told = lines[asked.quant], whole.share, asked.forecast
        name = escape(named(asked))
        figure.add_scatter(
            x=xs, y=1 / (1 - share + share / xs), mode="lines",
            line={"color": translucent(line.colour, 0.6), "width": 2, "dash": line.dash},
        )  # fmt: skip
        if math.isfinite(whole.bound):
            figure.add_hline(whole.bound, line={"color": line.colour, "width": 1, "dash": "dot"})
        figure.add_scatter(
            x=[_of_layers(whole)], y=[told.speedup], mode="markers", name=name,
            marker={"color": line.colour, "symbol": line.symbol, "size": 10},
            error_y={"low": [told.low], "high": [told.high], "color": line.colour},
            hovertemplate=f"{name}<br>%{{y:.3f}}×, bound {whole.bound:.2f}×",
        )  # fmt: skip
    figure.update_xaxes(type="log", title="speedup of the quantized layers together")
    figure.update_yaxes(range=_tall(wholes, float(xs[0])), title="speedup of the model; dotted: its bound")
    return figure


def _tall(wholes: "Sequence[tuple[AskedModel, Whole]]", first: float) -> list[float]:
    """From the curves' left ends to the bounds, or to three times the speedup where a bound is farther."""
    lowest = min(1 / (1 - whole.share + whole.share / first) for _, whole in wholes)
    highest = max(
        max(asked.forecast.high, min(whole.bound, _FAR * asked.forecast.speedup)) for asked, whole in wholes
    )
    return [0.9 * min(lowest, *(asked.forecast.low for asked, _ in wholes)), 1.05 * highest]


def _of_layers(whole: Whole) -> float:
    """What the quantized layers gain together."""
    quantized = [each for each in whole.layers if each.quant]
    treated = sum(each.treated_ms for each in quantized)
    return sum(each.baseline_ms for each in quantized) / treated if treated else 1.0


def _said(asked: "AskedModel") -> str:
    told = asked.forecast
    if math.isnan(told.speedup):
        return f"{told.verdict}: {told.reason}."
    reason = f" ({told.reason})" if told.reason else ""
    sure = "" if told.verdict == UNKNOWN else f", sure {sure_text(told.sure)}"
    return f"{told.verdict} {_times(told.speedup)}× ({_times(told.low)}–{_times(told.high)}){sure}{reason}."


def _times(ratio: float) -> str:
    """Two digits behind the point, of small ones two that say something."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _shares(whole: Whole) -> str:
    left = sum(each.baseline_ms for each in whole.layers if not each.quant)
    bound = f": at most {whole.bound:.2f}× (Amdahl)" if math.isfinite(whole.bound) else ""
    quantized = f"{whole.share:.0%} of {whole.baseline_ms:.4g} ms are in layers that are quantized{bound}"
    rest = f", the rest {whole.rest.ms:.3g} ms: {whole.rest.source}" if whole.rest.ms else ""
    return f"{quantized}. Other Linear layers {left:.3g} ms{rest}"


def _layers_text(each: Layers) -> str:
    told = f"unknown: {each.unknown}" if each.unknown else f"{_alone(each)} alone"
    times = f"{each.baseline_ms:.3g} → {each.treated_ms:.3g} ms"
    return f"{each.calls} × {each.M}×{each.K}×{each.N} {each.quant}: {times}, {told}"


def _alone(each: Layers) -> str:
    return f"{_times(each.speedup)}× ({_times(each.low)}–{_times(each.high)})"


def _table(models: "Sequence[AskedModel]") -> str:
    heads = [
        "Model",
        "Verdict",
        "Speedup",
        "Bound",
        "Unquantized, ms",
        "Quantized, ms",
        "Rest, ms",
        "Rest from, or why unknown",
    ]
    rows = []
    for asked in models:
        told, whole = asked.forecast, asked.whole
        known = not math.isnan(told.speedup)
        text = (
            f"{_times(told.speedup)}× <small>{_times(told.low)}–{_times(told.high)}</small>" if known else ""
        )
        numbers = (whole.bound, whole.baseline_ms, whole.treated_ms, whole.rest.ms) if whole and known else ()
        cells = [number_cell(f"{value:.4g}", value) for value in numbers] or [number_cell("", None)] * 4
        why = "; ".join(
            filter(None, [told.reason, whole.rest.source if whole else "", *(whole.notes if whole else ())])
        )
        rows.append(
            [
                Cell(f'<span class="label">{escape(named(asked))}</span>', named(asked)),
                Cell(chip(told.verdict), told.verdict),
                Cell(text, told.speedup if known else None, number=True),
                *cells,
                text_cell(why),
            ]
        )
    return table(heads, rows)


def _details(asked: "AskedModel") -> str:
    heads = ["Layers", "M×K×N", "Scheme", "Unquantized, ms", "Quantized, ms", "Alone", "Why not, or unknown"]
    assert asked.whole is not None
    rows = [
        [
            number_cell(str(each.calls), each.calls),
            text_cell(f"{each.M}×{each.K}×{each.N}"),
            text_cell(each.quant),
            number_cell(f"{each.baseline_ms:.3g}", each.baseline_ms),
            number_cell(f"{each.treated_ms:.3g}", each.treated_ms),
            number_cell("" if math.isnan(each.speedup) else _alone(each), each.speedup),
            text_cell(each.unknown or each.left),
        ]
        for each in sorted(asked.whole.layers, key=lambda each: -each.baseline_ms)
    ]
    return f"<details><summary>{escape(named(asked))}</summary>{table(heads, rows)}</details>"
