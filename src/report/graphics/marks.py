"""Marks of a drawn figure: symbols, dashes, colours, as SVG."""

import math
import re
from typing import Any

_INK, _PAPER = "var(--ink)", "var(--paper)"
_THEMED = {"#30343a": _INK, "white": _PAPER}  # what is not the same in the dark
_DASHES = {"dash": "6 4", "dot": "2 3", "dashdot": "7 3 2 3"}
_TIPS = (1.25, 0.5) * 5  # of a star, and between them
_CORNERS = {  # of a symbol of radius 1, y downwards
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "triangle-up": ((0, -1.1), (1.05, 0.85), (-1.05, 0.85)),
    "triangle-down": ((0, 1.1), (1.05, -0.85), (-1.05, -0.85)),
    "cross": ((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4), (0.4, 1.1), (-0.4, 1.1),
              (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    "x": ((-1, -0.6), (-0.6, -1), (0, -0.4), (0.6, -1), (1, -0.6), (0.4, 0), (1, 0.6), (0.6, 1), (0, 0.4), (-0.6, 1),
          (-1, 0.6), (-0.4, 0)),
    "star": tuple((r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5)) for i, r in enumerate(_TIPS)),
    "hexagon": tuple((1.05 * math.cos(math.pi * i / 3), 1.05 * math.sin(math.pi * i / 3)) for i in range(6)),
    "line-ns": ((0, -1), (0, 1)),
    "line-ew": ((-1, 0), (1, 0)),
}  # fmt: skip


def colour(name: object) -> str:
    """A colour; those that depend on the page's light as one of its variables."""
    return _THEMED.get(str(name).lower(), str(name))


def dashes(name: object) -> str:
    """A stroke's pattern as an attribute; nothing for a solid one."""
    pattern = _DASHES.get(str(name))
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def num(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")


def points(path: list[tuple[float, float]]) -> str:
    """A line through points as a path's data."""
    return "M" + "L".join(f"{num(x)} {num(y)}" for x, y in path)


def symbol(name: object, x: float, y: float, size: float, style: str) -> str:
    """A symbol's element, still open for a title: ``<path ...>`` or ``<circle ...>``.

    Raises:
        ValueError: there is no such symbol.
    """
    base = re.sub("-open$", "", str(name or "circle"))
    if base == "circle":
        return f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(size / 2)}" {style}>'
    if base not in _CORNERS:
        raise ValueError(f"symbol {name!r}: none of circle, {', '.join(_CORNERS)}")
    corners = [(x + size / 2 * dx, y + size / 2 * dy) for dx, dy in _CORNERS[base]]
    return f'<path d="{points(corners)}Z" {style}>'


def closing(opened: str) -> str:
    """The tag that closes a symbol."""
    return "</circle>" if opened.startswith("<circle") else "</path>"


def stroke(path: str, line: dict[str, Any]) -> str:
    """A line along a path: colour, width in px, dash."""
    style = (
        f'stroke="{colour(line.get("color", "#30343A"))}" stroke-width="{num(float(line.get("width", 2)))}"'
    )
    return f'<path d="{path}" fill="none" {style}{dashes(line.get("dash"))}/>'


def swatch(line_colour: str, name: str, dash: str) -> str:
    """A piece of a line with its symbol, for a legend."""
    opened = symbol(name, 11, 6, 7, f'fill="{colour(line_colour)}"')
    drawn = stroke("M0 6H22", {"color": line_colour, "dash": dash})
    return f'<svg viewBox="0 0 22 12" aria-hidden="true">{drawn}{opened}{closing(opened)}</svg>'


def hollow(name: str) -> str:
    """A symbol's outline, for a legend."""
    opened = symbol(name, 11, 6, 10, f'fill="none" stroke="{_INK}" stroke-width="1.2"')
    return f'<svg viewBox="0 0 22 12" aria-hidden="true">{opened}{closing(opened)}</svg>'
