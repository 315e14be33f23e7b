"""Small pieces of HTML; every text that comes from a run is escaped here."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from src.config.paths import command
from src.report.graphics.marks import swatch
from src.report.graphics.palette import Line, look

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Cell:
    """One cell of a table: HTML, and the value that it is sorted by (none: its text)."""

    html: str
    sort: float | str | None = None
    number: bool = False
    columns: int = 1


def text_cell(text: str) -> Cell:
    """A cell of plain text."""
    return Cell(escape(text), text)


def number_cell(text: str, value: object) -> Cell:
    """A right-aligned cell, sorted by its value."""
    return Cell(escape(text), float(value) if isinstance(value, (int, float)) else None, number=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], attributes: Sequence[str] = ()) -> str:
    """A table that sorts when a head is clicked; cards on a phone, and it scrolls by itself where it is too wide.

    Args:
        heads: of its columns.
        rows: of cells.
        attributes: of each row's element, as HTML; none where not given.
    """
    full = next((row for row in rows if len(row) == len(heads)), [Cell("")] * len(heads))
    numbers = [cell.number for cell in full]
    head = "".join(
        f'<th scope="col"{_class(number)}><button type="button">{escape(name)}</button></th>'
        for name, number in zip(heads, numbers, strict=True)
    )
    given = attributes or [""] * len(rows)
    body = "".join(
        f"<tr{own}>{''.join(_cell(cell) for cell in row)}</tr>" for row, own in zip(rows, given, strict=True)
    )
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def chip(status: str) -> str:
    """A verdict or outcome as a small coloured label, with a glyph beside the colour."""
    style = look(status)
    return (
        f'<span class="chip" style="background:{style.tint}">'
        f'<span class="glyph" aria-hidden="true">{style.glyph}</span>{escape(status)}</span>'
    )


def heading(title: str) -> str:
    """A section's head, with a link to itself."""
    name = anchor(title)
    return f'<h2 id="{name}"><a href="#{name}">{escape(title)}</a></h2>'


def anchor(title: str) -> str:
    """What a heading is called in an address: ``speedup-over-m``."""
    return "-".join(re.findall(r"\w+", title.lower()))


def legend(lines: dict[str, Line], shown: Iterable[str]) -> str:
    """Line and symbol of the schemes that are shown."""
    among = set(shown)
    items = "".join(
        f'<span class="key">{swatch(line.colour, line.symbol, line.dash)}{escape(name)}</span>'
        for name, line in lines.items()
        if name in among
    )
    return f'<p class="legend">{items}</p>'


def empty(what: str, *arguments: str) -> str:
    """An empty section: what is missing and the arguments of the run that yields it."""
    return f'<p class="empty">{escape(what)} <code>{escape(command("run", *arguments))}</code></p>'


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, as a definition list."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def _cell(cell: Cell) -> str:
    given = f"{cell.sort:.7g}" if isinstance(cell.sort, float) else escape(str(cell.sort))
    missing = cell.sort is None or (isinstance(cell.sort, float) and math.isnan(cell.sort))
    told = missing or given == _TAG.sub("", cell.html)  # its text, by which it is sorted anyway
    sort = "" if told else f' data-v="{given}"'
    wide = f' colspan="{cell.columns}"' if cell.columns > 1 else ""
    return f"<td{_class(cell.number)}{sort}{wide}>{cell.html}</td>"


def _class(number: bool) -> str:
    return ' class="num"' if number else ""
