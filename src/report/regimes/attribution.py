"""Measured models beside what is predicted of them: where the time goes, and why the two differ."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from src.analysis.runs.layer_tables import MOST_TABLES
from src.forecasts.models.attribution import Attribution, longest
from src.forecasts.models.whole import Layers
from src.report.graphics.described import Figure
from src.report.graphics.markup import Cell, number_cell, table, text_cell
from src.report.runs.sections import grid, panel, section

_FIRST, _MOST_DRAWN, _MOST_SHAPES = 4, 12, 4
_HUES = (
    "#08519C",
    "#3182BD",
    "#6BAED6",
    "#9ECAE1",
    "#B9C0C9",
    "#DFE2E6",
)  # shapes, other Linear layers, the rest
_MEANING = (
    "the shape that takes longest", "the second", "the third", "the fourth", "other Linear layers", "not Linear"
)  # fmt: skip
_ARMS = ("unquantized", "predicted")
_NOTE = "Milliseconds of one call. Diamonds: quantized, as measured."
_SMALL = 0.01  # of the call: gaps below it are not told


def attributions_in_words(found: Sequence[Attribution]) -> Iterator[str]:
    """A few lines for each of the newest measured models that something is predicted of."""
    known = [each for each in found if math.isfinite(each.told.speedup)]
    for each in known[:_FIRST]:
        yield f"{_name(each)} on {each.device}: {_side_by_side(each)}"
        yield from (f"- {line}" for line in _why(each))
    if more := len(found) - len(known[:_FIRST]):
        yield f"measured and predicted of {more} more model{'s' * (more > 1)}: in the report"


def attribution_section(found: Sequence[Attribution]) -> str:
    """Measured and predicted as a section; empty without any."""
    if not found:
        return ""
    note = (
        f"Measured calls, of the newest {MOST_TABLES} runs, against their forecasts from single layers. Only the "
        "unquantized call's time is taken from the run. Linear layers by shape are always predicted; what a profile "
        "tells apart is measured."
    )
    known = [each for each in found if math.isfinite(each.told.speedup)][:_MOST_DRAWN]
    drawn = [panel(_name(each), each.device, bars(each)) for each in known]
    figures = _legend() + grid(drawn, "wide") if drawn else ""
    told = "".join(
        f"<details><summary>{escape(f'{_name(each)} on {each.device}: {_side_by_side(each)}')}</summary>"
        f"{_list(_why(each))}{_parts(each)}{_shapes(each)}</details>"
        for each in found
    )
    return section(
        "Where the time goes: measured and predicted", f"{note} {_NOTE}" if drawn else note, figures + told
    )


def bars(each: Attribution) -> Figure:
    """The unquantized call and the quantized one as predicted, stacked by shape, and the latter as measured."""
    figure = Figure(118)
    for hue, (name, *times) in zip(_HUES, _groups(each), strict=True):
        figure.add_bar(
            y=_ARMS, x=times, marker={"color": hue},
            customdata=[f"{escape(name)}<br>{arm} {ms:.3g} ms" for arm, ms in zip(_ARMS, times, strict=True)],
        )  # fmt: skip
    figure.add_scatter(
        x=[each.treated_ms], y=_ARMS[1:], mode="markers",
        marker={"color": "#30343A", "symbol": "diamond", "size": 10, "line": {"color": "white", "width": 1}},
        customdata=[f"quantized, as measured: {each.treated_ms:.4g} ms"],
    )  # fmt: skip
    figure.update_yaxes(categoryarray=_ARMS[::-1], showgrid=False)
    figure.update_xaxes(title="ms")
    return figure


def _legend() -> str:
    """What the colours mean."""
    items = "".join(
        f'<span class="key"><i class="box" style="background:{hue}"></i>{escape(name)}</span>'
        for hue, name in zip(_HUES, _MEANING, strict=True)
    )
    return f'<p class="legend">{items}</p>'


def _list(lines: Iterator[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _groups(each: Attribution) -> list[tuple[str, float, float]]:
    """What a bar is made of: the longest shapes, all other Linear layers, the rest; unquantized and quantized ms."""
    first = longest(each.whole.layers)[:_MOST_SHAPES]
    others = [layers for layers in each.whole.layers if layers not in first]
    sums = sum(layers.baseline_ms for layers in others), sum(layers.treated_ms for layers in others)
    shapes = [(_shape(layers), layers.baseline_ms, layers.treated_ms) for layers in first]
    padded = shapes + [("", 0.0, 0.0)] * (_MOST_SHAPES - len(shapes))
    rest = each.whole.rest.ms
    return [*padded, ("other Linear layers", *sums), ("all that is not Linear", rest, rest)]


def _name(each: Attribution) -> str:
    return f"{each.workload} {each.treatment}"


def _side_by_side(each: Attribution) -> str:
    ratio, low, high = each.measured
    told = f"{each.told.speedup:.2f}× ({each.told.low:.2f}–{each.told.high:.2f})"
    predicted = told if math.isfinite(each.told.speedup) else each.told.verdict
    return f"measured {ratio:.2f}× ({low:.2f}–{high:.2f}), predicted {predicted}"


def _why(each: Attribution) -> Iterator[str]:
    """Where the call's time goes, and what the gap is made of."""
    layers = each.whole.layers
    base, treated = sum(one.baseline_ms for one in layers), sum(one.treated_ms for one in layers)
    share = base / each.baseline_ms
    by = "by its profile" if each.profiled else "as predicted"
    first = "; ".join(_said(one) for one in longest(layers)[:2])
    of_call = f"{base:.3g} of {each.baseline_ms:.4g} ms ({share:.0%}, {by})"
    yield f"Linear layers {of_call}, quantized {treated:.3g} ms as predicted; most of it {first}"
    if each.told.reason:
        yield f"unknown: {each.told.reason}"
    else:
        than = f"{abs(each.gap_ms):.3g} ms {'more' if each.gap_ms > 0 else 'less'} than predicted"
        yield f"the quantized call took {each.treated_ms:.4g} ms, {than}{_split(each)}"
    waits = [value for value in each.waiting if math.isfinite(value)]
    if waits:
        shares = " → ".join(f"{value:.0%}" for value in waits)
        yield f"the device waits for the host {shares} of a call"


def _split(each: Attribution) -> str:
    """What the gap is made of, as far as it is known."""
    told = []
    if math.isfinite(each.clock):
        makes = f"worth {each.clock_ms:+.2g} ms if all that is not Linear follows it"
        told.append(f"at the power limit its clock was {each.clock - 1:+.1%}, {makes}")
    if each.profiled:
        gaps = [(part.name, part.treated_ms - part.predicted_ms) for part in each.parts]
        told += [f"{name} {gap:+.2g} ms" for name, gap in gaps if abs(gap) > _SMALL * each.baseline_ms]
    else:
        told.append("measure.profile=true tells the rest apart")
    return f" ({'; '.join(told)})" if told else ""


def _said(layers: Layers) -> str:
    return f"{_shape(layers)}: {layers.baseline_ms:.3g} → {layers.treated_ms:.3g} ms"


def _shape(layers: Layers) -> str:
    return f"{layers.calls} × {layers.M}×{layers.K}×{layers.N} {layers.quant}"


def _parts(each: Attribution) -> str:
    heads = ["Part", "Unquantized, ms", "Quantized, ms", "As predicted, ms"]
    rows = [
        [
            text_cell(part.name),
            *(_ms(value) for value in (part.baseline_ms, part.treated_ms, part.predicted_ms)),
        ]
        for part in each.parts
    ]
    whole = [
        text_cell("the call"),
        *(_ms(v) for v in (each.baseline_ms, each.treated_ms, each.whole.treated_ms)),
    ]
    return table(heads, [*rows, whole])


def _shapes(each: Attribution) -> str:
    heads = [
        "Layers",
        "M×K×N",
        "Scheme",
        "Unquantized, ms",
        "Quantized, ms",
        "Saved, ms",
        "Why not, or unknown",
    ]
    rows = [
        [
            number_cell(str(one.calls), one.calls),
            text_cell(f"{one.M}×{one.K}×{one.N}"),
            text_cell(one.quant),
            *(_ms(value) for value in (one.baseline_ms, one.treated_ms, one.baseline_ms - one.treated_ms)),
            text_cell(one.unknown or one.left),
        ]
        for one in sorted(each.whole.layers, key=lambda one: -one.baseline_ms)
    ]
    return table(heads, rows)


def _ms(value: float) -> Cell:
    return number_cell("" if math.isnan(value) else f"{value:.3g}", value)
