"""Colours and symbols: Okabe-Ito's, which the colour-blind tell apart, and never colour alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32


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

_SCHEMES = (
    "#0072B2",
    "#CC79A7",
    "#56B4E9",
    "#7B4FA3",
    "#8C564B",
    "#00A5B5",
    "#B5179E",
    "#4A6FD4",
)  # no verdict's
_KNOWN = (
    "int8wo",
    "int8dq",
    "float8wo",
    "float8dq",
    "int4wo",
    "float8_e4m3_row",
    "autoquant",
    "float8_static",
)
_RECIPES = (  # of trainings, which have figures of their own
    "float8_tensorwise",
    "float8_rowwise",
    "float8_rowwise_with_gw_hp",
    "int8_mixed_precision",
    "int8_weight_only",
    "adamw8bit",
    "adamw4bit",
    "adamwfp8",
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
_TRIES = 24  # for a line that no other scheme of a report has
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
    """A line for each scheme, no two alike: a name has the same one in every report, unless another one has it."""
    found: dict[str, Line] = {}
    for name in sorted({*names} - {"none"}, key=lambda name: (not _is_common(name), name)):
        tries = [_line(name, number) for number in range(_TRIES)]
        found[name] = next((line for line in tries if line not in found.values()), tries[0])
    return dict(sorted(found.items()))


def _is_common(name: str) -> bool:
    return name.removeprefix("training/") in (*_KNOWN, *_RECIPES)


def _line(name: str, again: int = 0) -> Line:
    """The common schemes differ in colour; the others have a colour, a symbol and a dash by their names.

    Args:
        name: of the scheme.
        again: how many lines of it another one had.
    """
    recipe = name.removeprefix("training/")
    for known, dash in ((_KNOWN, 0), (_RECIPES, 1)):
        if recipe in known:
            place = known.index(recipe)
            return Line(_SCHEMES[place], _SYMBOLS[place % len(_SYMBOLS)], _DASHES[dash])
    number = crc32(f"{name}{again or ''}".encode())
    colour, symbol = number % len(_SCHEMES), number // len(_SCHEMES) % len(_SYMBOLS)
    return Line(_SCHEMES[colour], _SYMBOLS[symbol], _DASHES[1 + number // 64 % (len(_DASHES) - 1)])


def translucent(colour: str, opacity: float) -> str:
    """A hex colour as rgba()."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
