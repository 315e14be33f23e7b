"""Figures as SVG: described in plotly's vocabulary, drawn for a page that needs no scripts for them.

Text stays text, colours follow the page's light, and each mark has its hover text as a title. Whatever is described
that this cannot draw is an error, not a gap.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from src.report.graphics import traces as draw
from src.report.graphics.axes import axis
from src.report.graphics.described import Figure
from src.report.graphics.marks import closing, colour, num, points, stroke

WIDTH = 380  # px: what a phone shows, and a third of a page
_LINE = 15  # px
_EDGE = 10  # px right of a plot
_BROAD = 500  # px: from here on a phone shows it much smaller, with larger letters
_MOST_GROWN = 1.2  # of its natural width
_TOLD = 12  # marks in a figure's text


def drawing(figure: Figure, caption: str = "", width: int = WIDTH) -> str:
    """A figure as an SVG element that scales with its place.

    Args:
        figure: its axes are linear, logarithmic or of categories.
        caption: what a reader who does not see it is told first; then its first marks.
        width: px, of the drawing at its natural size; its height is the figure's.

    Raises:
        ValueError: it has a symbol that is not drawn here.
    """
    traces, frame = figure.traces, _frame(figure, width)
    ends = draw.stacks(traces)
    marks = "".join(mark for trace in traces for mark in draw.marks(trace, frame, ends))
    clip = "c" + hashlib.md5((caption + marks).encode(), usedforsecurity=False).hexdigest()[:8]
    told = [text for trace in traces for text in draw.hovers(trace)]
    more = [f"{len(told) - _TOLD} more"] if len(told) > _TOLD else []
    description = "; ".join(text.replace("\n", ", ") for text in [*told[:_TOLD], *more])
    broad = " broad" if width > _BROAD else ""
    legend = _legend(traces) if figure.legend else ""
    return (
        f'<svg class="plot{broad}" viewBox="0 0 {width} {figure.height}" role="img" aria-label="{caption}" '
        f'style="max-width:{round(_MOST_GROWN * width)}px"><desc>{description}</desc>'
        f'<clipPath id="{clip}"><rect x="{num(frame.left)}" y="{num(frame.top)}" width="{num(frame.width)}" '
        f'height="{num(frame.height)}"/></clipPath>{"".join(_axes(frame))}'
        f'<g clip-path="url(#{clip})">{"".join(_shapes(figure, frame))}{marks}</g>'
        f"{''.join(draw.labels(traces, frame))}{legend}</svg>"
    )


def _frame(figure: Figure, width: int) -> draw.Frame:
    x = axis(figure.xaxis, [*_along(figure.traces, "x")])
    y = axis(figure.yaxis, [*_along(figure.traces, "y")])
    beside = [] if y.inside else [line for _, text in y.ticks for line in text.split("<br>")]
    longest = max(map(draw.width_of, beside), default=0.0)
    left = longest + 12 + (_LINE + 2 if y.title else 0)
    top, below = 32.0 if figure.legend else 8.0, 22.0 + (18 if x.title else 0)
    return draw.Frame(left, top, width - left - _EDGE, figure.height - top - below, x, y)


def _along(traces: Sequence[dict[str, Any]], name: str) -> Iterator[Any]:
    """Every value along an axis: of marks, of error bars' ends, of stacked bars."""
    for trace in traces:
        yield from (value for value in draw.values(trace, name) if value is not None)
        for ends in draw.errors(trace, name):
            yield from ends
    bars = [trace for trace in traces if trace["type"] == "bar"]
    if bars and name == "x":
        sums: dict[Any, float] = {}
        for trace in bars:
            for place, length in zip(draw.values(trace, "y"), draw.values(trace, "x"), strict=True):
                sums[place] = sums.get(place, 0.0) + float(length)
        yield from (0.0, *sums.values())


def _axes(frame: draw.Frame) -> Iterator[str]:
    """Grid, ticks and titles."""
    low, right = frame.top + frame.height, frame.left + frame.width
    for place, text in _apart(frame):
        x, _ = frame.of(frame.x.place(place), 0)
        if frame.x.grid:
            yield f'<path class="grid" d="M{num(x)} {num(frame.top)}V{num(low)}"/>'
        yield f'<text x="{num(x)}" y="{num(low + _LINE)}" text-anchor="middle">{draw.plain(text)}</text>'
    for place, text in frame.y.ticks:
        _, y = frame.of(0, frame.y.place(place))
        if frame.y.grid:
            yield f'<path class="grid" d="M{num(frame.left)} {num(y)}H{num(right)}"/>'
        yield _above(text, frame.left, y) if frame.y.inside else _lines(text, frame.left - 7, y)
    if frame.x.title:
        end = right + _EDGE - draw.width_of(frame.x.title) / 2  # a long one of a narrow plot begins before it
        middle, under = min(frame.left + frame.width / 2, end), low + _LINE + 18
        yield _title(frame.x.title, middle, under)
    if frame.y.title:
        x, y = 11.0, frame.top + frame.height / 2
        yield _title(frame.y.title, x, y, f' transform="rotate(-90 {num(x)} {num(y)})"')


def _apart(frame: draw.Frame) -> list[tuple[float, str]]:
    """The ticks below the plot, every second or third where they would run into each other; that of 1 stays."""
    ticks = frame.x.ticks
    widest = max((draw.width_of(text) for _, text in ticks), default=0.0) + 8
    one = next((i for i, (_, text) in enumerate(ticks) if text.rstrip("×") == "1"), 0)
    for step in range(1, len(ticks) + 1):
        kept = ticks[one % step :: step]
        places = [frame.width * frame.x.place(place) for place, _ in kept]
        if all(b - a >= widest for a, b in pairwise(places)):
            return kept
    return ticks[:1]


def _title(text: str, x: float, y: float, turned: str = "") -> str:
    return (
        f'<text class="axis" x="{num(x)}" y="{num(y)}" text-anchor="middle"{turned}>{draw.plain(text)}</text>'
    )


def _lines(text: str, x: float, y: float) -> str:
    """A label that ends at a point, its lines above each other around it."""
    lines = text.split("<br>")
    first = y + 4 - _LINE * (len(lines) - 1) / 2
    style = ('text-anchor="end"', 'text-anchor="end" class="soft"')
    return "".join(
        f'<text x="{num(x)}" y="{num(first + _LINE * i)}" {style[i > 0]}>{_bold(line)}</text>'
        for i, line in enumerate(lines)
    )


def _above(text: str, x: float, y: float) -> str:
    """A label that begins at the plot's edge, its lines above what is drawn at a height."""
    lines = text.split("<br>")
    first = y - _LINE * len(lines) + 2
    return "".join(
        f'<text class="over{" soft" * (i > 0)}" x="{num(x)}" y="{num(first + _LINE * i)}">{_bold(line)}</text>'
        for i, line in enumerate(lines)
    )


def _shapes(figure: Figure, frame: draw.Frame) -> Iterator[str]:
    """Bands and lines, below all traces."""
    for shape in figure.shapes:
        (x0, x1), (y0, y1) = (
            (0.0, 1.0) if shape[name] is None else map(own.share, shape[name])
            for name, own in (("x", frame.x), ("y", frame.y))
        )
        (x0, y0), (x1, y1) = frame.of(x0, y0), frame.of(x1, y1)
        if "fillcolor" in shape:
            box = points([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            yield f'<path d="{box}Z" fill="{colour(shape["fillcolor"])}"/>'
        else:
            yield stroke(points([(x0, y0), (x1, y1)]), shape.get("line") or {})


def _legend(traces: Sequence[dict[str, Any]]) -> str:
    """Names of the traces in one line above the plot."""
    parts, x = [], 8.0
    for trace in (each for each in traces if each.get("name")):
        opened = draw.marked(trace.get("marker") or {}, x, 12, 8)
        parts.append(
            f'{opened}{closing(opened)}<text x="{num(x + 8)}" y="16">{draw.plain(str(trace["name"]))}</text>'
        )
        x += 26 + draw.width_of(str(trace["name"]))
    return "".join(parts)


def _bold(line: str) -> str:
    return re.sub(r"<b>(.*?)</b>", r'<tspan class="strong">\1</tspan>', line)
