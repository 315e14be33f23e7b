"""Colours and symbols: Okabe-Ito's, which the colour-blind tell apart, and never colour alone."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a verdict looks: `ink` for marks, `tint` behind dark text, `glyph` in text, `symbol` in plots."""

    ink: str
    tint: str
    glyph: str
    symbol: str


VERDICTS = {
    "helps": Look("#009E73", "#A6DCC9", "▲", "triangle-up"),
    "hurts": Look("#D55E00", "#F3BC98", "▼", "triangle-down"),
    "neutral": Look("#7A7F87", "#E1E4E8", "=", "circle"),
    "inconclusive": Look("#B59F00", "#F6EC9C", "?", "diamond"),
}
ENDED = Look("#8A8F98", "#F4F5F7", "–", "x")  # of any outcome without a verdict

_SCHEMES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#3B3B3B")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Line:
    """How a scheme looks in plots."""

    colour: str
    symbol: str
    dash: str


def look(status: str) -> Look:
    """The look of a verdict or of an outcome."""
    return VERDICTS.get(status, ENDED)


def scheme_lines(names: Iterable[str]) -> dict[str, Line]:
    """A line for each scheme, the same for a name in all plots of a report."""
    ordered = sorted({*names} - {"none"})
    return {
        name: Line(
            _SCHEMES[i % len(_SCHEMES)],
            _SYMBOLS[i % len(_SYMBOLS)],
            _DASHES[i // len(_SCHEMES) % len(_DASHES)],
        )
        for i, name in enumerate(ordered)
    }


def translucent(colour: str, opacity: float) -> str:
    """A hex colour as rgba()."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
