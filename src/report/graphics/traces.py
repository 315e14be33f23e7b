"""Traces of a figure as SVG: lines with their error bars and symbols, stacked bars, texts beside marks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from src.report.graphics.axes import Axis
from src.report.graphics.marks import closing, colour, num, points, stroke, symbol

CHARACTER = 6.3  # px of a character at the font's size of 12 px
_TAGS = re.compile(r"<(?!br)[^>]*>")
_FIELD = re.compile(r"%\{(x|y|customdata)(?::([^}]*))?\}")
_SMALLER = 0.88  # a label's letters than those of the axes
Beside = tuple[str, int, int]  # anchor, and px from the mark
_BESIDE: tuple[Beside, ...] = (
    *(("start", 8, 4), ("end", -8, 4), ("middle", 0, -9), ("middle", 0, 17)),
    *(("end", 6, -9), ("end", 6, 17), ("start", -6, -9), ("start", -6, 17)),
)
_AT = dict(
    zip(
        ("middle right", "middle left", "top center", "bottom center"),
        zip(_BESIDE, strict=True),
        strict=False,
    )
)
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Frame:
    """The plot's rectangle within the drawing, px, and its axes."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def at(self, x: Any, y: Any) -> tuple[float, float]:
        """The point of two values."""
        return self.of(self.x.share(x), self.y.share(y))

    def of(self, x: float, y: float) -> tuple[float, float]:
        """The point at these shares of the width and the height."""
        return self.left + x * self.width, self.top + (1 - y) * self.height


def marks(trace: dict[str, Any], frame: Frame, ends: dict[Any, float]) -> Iterator[str]:
    """What one trace draws; `ends` is of `stacks`, the same for all traces of a figure."""
    if trace["type"] == "bar":
        yield from _bars(trace, frame, ends)
        return
    places = [
        None if x is None or y is None else frame.at(x, y)
        for x, y in zip(values(trace, "x"), values(trace, "y"), strict=True)
    ]
    mode, line = str(trace.get("mode") or "markers"), trace.get("line") or {}
    if trace.get("fill") == "toself":
        yield f'<path d="{points([p for p in places if p])}Z" fill="{colour(trace["fillcolor"])}"/>'
    if "lines" in mode and float(line.get("width", 2)) > 0:
        yield from (stroke(points(part), line) for part in _parts(places) if len(part) > 1)
    yield from _error_bars(trace, frame)
    if "markers" in mode:
        yield from _symbols(trace, places)


def stacks(traces: Sequence[dict[str, Any]]) -> dict[Any, float]:
    """Where the next bar of each place begins."""
    return {place: 0.0 for trace in traces if trace["type"] == "bar" for place in values(trace, "y")}


def values(trace: dict[str, Any], name: str) -> list[Any]:
    """A trace's data under a name; none where it has none."""
    return listed(trace.get(name))


def listed(found: Any) -> list[Any]:
    """A list; none where there is none."""
    return [] if found is None else list(found)


def errors(trace: dict[str, Any], name: str) -> list[tuple[float, float]]:
    """Where the error bars along an axis begin and end."""
    given = trace.get(f"error_{name}") or {}
    ends = zip(values(given, "low"), values(given, "high"), strict=True)
    return [(float(low), float(high)) for low, high in ends]


def hovers(trace: dict[str, Any]) -> list[str]:
    """Each mark's hover text as plain lines: its template's, else its own data; nothing where it has neither."""
    own = listed(trace.get("customdata"))
    template = str(trace.get("hovertemplate") or ("%{customdata}" if own else ""))
    if not template:
        return []
    data = own or [""] * len(values(trace, "x"))
    rows = zip(values(trace, "x"), values(trace, "y"), data, strict=True)
    return [plain(_filled(template, dict(zip(("x", "y", "customdata"), row, strict=True)))) for row in rows]


def _filled(template: str, row: dict[str, Any]) -> str:
    return _FIELD.sub(lambda found: format(row[found[1]], found[2] or ""), template)


def _parts(places: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """The unbroken pieces of a line."""
    part: list[tuple[float, float]] = []
    for place in [*places, None]:
        if place is not None:
            part.append(place)
        elif part:
            yield part
            part = []


def _bars(trace: dict[str, Any], frame: Frame, ends: dict[Any, float]) -> Iterator[str]:
    """Horizontal bars, each on top of those before it; `ends` holds where they end."""
    thick = 0.62 * frame.height / max(len(frame.y.ticks), 1)
    fill = colour((trace.get("marker") or {}).get("color", "#0072B2"))
    for place, length, text in zip(values(trace, "y"), values(trace, "x"), hovers(trace), strict=True):
        x0, y = frame.at(ends[place], place)
        ends[place] += float(length)
        x1, _ = frame.at(ends[place], place)
        if x1 > x0:
            box = f'x="{num(x0)}" y="{num(y - thick / 2)}" width="{num(x1 - x0)}" height="{num(thick)}"'
            yield f'<rect {box} fill="{fill}" stroke="var(--paper)"><title>{text}</title></rect>'


def _error_bars(trace: dict[str, Any], frame: Frame) -> Iterator[str]:
    xs, ys = values(trace, "x"), values(trace, "y")
    for name in ("x", "y"):
        given = trace.get(f"error_{name}") or {}
        line = {"color": given.get("color", "#30343A"), "width": given.get("thickness", 1.5)}
        for (low, high), x, y in zip(errors(trace, name), xs, ys, strict=False):
            own = frame.x if name == "x" else frame.y
            low = own.low if own.units is not float and low <= 0 else own.units(low)
            ends = [own.place(max(low, own.low)), own.place(min(own.units(high), own.high))]
            other = frame.y.share(y) if name == "x" else frame.x.share(x)
            yield stroke(points([frame.of(*((e, other) if name == "x" else (other, e))) for e in ends]), line)


def _symbols(trace: dict[str, Any], places: Sequence[tuple[float, float] | None]) -> Iterator[str]:
    marker = trace.get("marker") or {}
    told = hovers(trace) or [""] * len(places)
    for place, text, size in zip(places, told, _sizes(marker, len(places)), strict=True):
        if place is not None:
            opened = marked(marker, *place, size)
            yield f"{opened}{f'<title>{text}</title>' if text else ''}{closing(opened)}"


def _sizes(marker: dict[str, Any], count: int) -> list[float]:
    """The width of each mark in px: one for all, or one each."""
    given = marker.get("size", 8)
    return (
        [float(given)] * count if isinstance(given, (int, float)) else [float(each) for each in listed(given)]
    )


def marked(marker: dict[str, Any], x: float, y: float, size: float) -> str:
    """A marker at a point, still open for a title."""
    name, fill, edge = (
        str(marker.get("symbol") or "circle"),
        colour(marker.get("color", "#0072B2")),
        marker.get("line"),
    )
    if name.endswith("-open"):
        return symbol(name, x, y, size, f'fill="none" stroke="{fill}" stroke-width="1.5"')
    style = f'fill="{fill}"'
    if edge and edge.get("color"):
        style += f' stroke="{colour(edge["color"])}" stroke-width="{edge.get("width", 1)}"'
    return symbol(name, x, y, size, style)


def labels(traces: Sequence[dict[str, Any]], frame: Frame) -> Iterator[str]:
    """Texts beside marks: where there is room to the right, the left, above or below; else none, the title has it.

    A trace whose texts have a position has them there or nowhere.
    """
    wanted = [each for trace in traces for each in _texts(trace, frame)]
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y, *_ in wanted]
    for x, y, text, beside in wanted:
        for anchor, dx, dy in beside:
            box = _box(x + dx, y + dy, anchor, _SMALLER * width_of(text))
            if (
                box[0] > frame.left
                and box[2] < frame.left + frame.width + 8
                and not any(_meet(box, t) for t in taken)
            ):
                taken.append(box)
                at = f'x="{num(x + dx)}" y="{num(y + dy)}" text-anchor="{anchor}"'
                yield f'<text class="label" {at}>{plain(text)}</text>'
                break


def _texts(trace: dict[str, Any], frame: Frame) -> Iterator[tuple[float, float, str, Sequence[Beside]]]:
    """Where a trace has texts, the marks' places, what stands beside them, and where it may."""
    if "text" not in str(trace.get("mode")):
        return
    given = trace.get("text")
    texts = [given] if isinstance(given, str) else listed(given)
    beside = _AT.get(str(trace.get("textposition")), _BESIDE)
    for x, y, text in zip(values(trace, "x"), values(trace, "y"), texts, strict=False):
        if text:
            yield (*frame.at(x, y), str(text), beside)


def _box(x: float, y: float, anchor: str, wide: float) -> Box:
    left = x - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
    return left, y - 10, left + wide, y + 2


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def width_of(text: str) -> float:
    """Estimated px of a line of text."""
    return CHARACTER * len(re.sub("&[a-z#0-9]+;", "x", _TAGS.sub("", text)))


def plain(text: str) -> str:
    """Text that is escaped already and has some tags, without them; line breaks stay."""
    return _TAGS.sub("", text).replace("<br>", "\n")
