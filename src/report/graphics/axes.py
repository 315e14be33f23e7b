"""Axes of a drawn figure: where a value lies, which ticks it has, and how these are told."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_STEPS = (1, 2, 5, 10)
_MOST_TICKS = 6
_AIR = 0.06  # of an axis' length, beyond what is drawn
_DECADES = 3  # from here on a log axis has a tick per power of ten only


@dataclass(frozen=True)
class Axis:
    """One axis: its ends in its own units (logarithms on a log axis, places on one of categories)."""

    low: float
    high: float
    ticks: list[tuple[float, str]]  # place in the axis' units, text
    units: Callable[[Any], float]
    title: str = ""
    grid: bool = True
    categories: bool = False
    inside: bool = False  # its ticks' texts stand in the plot, above their places

    def share(self, value: Any) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        return self.place(self.units(value))

    def place(self, units: float) -> float:
        """The same of a value in the axis' own units."""
        return (units - self.low) / ((self.high - self.low) or 1.0)


def axis(layout: dict[str, Any], values: Sequence[Any]) -> Axis:
    """The axis that a layout describes.

    Args:
        layout: what the figure says of it; of ticklabelposition ``inside top``.
        values: everything that is drawn along it.
    """
    common: dict[str, Any] = {
        "title": str(layout.get("title") or ""),
        "grid": layout.get("showgrid") is not False,
        "inside": layout.get("ticklabelposition") == "inside top",
    }
    if any(isinstance(value, str) for value in values):
        return _of_categories(layout, values, common)
    log = layout.get("type") == "log"
    units: Callable[[Any], float] = _logarithm if log else float
    given = layout.get("range")
    low, high = (float(given[0]), float(given[1])) if given is not None else _ends([units(v) for v in values])
    ticks = [*_ticks(layout, low, high, log=log)]
    return Axis(low, high, ticks, units, **common)


def _of_categories(layout: dict[str, Any], values: Sequence[Any], common: dict[str, Any]) -> Axis:
    names = [str(name) for name in layout.get("categoryarray") or dict.fromkeys(values)]
    places = {name: float(place) for place, name in enumerate(names)}
    ticks = [(place, name) for name, place in places.items()]
    return Axis(-0.5, len(names) - 0.5, ticks, lambda value: places[str(value)], categories=True, **common)


def _logarithm(value: Any) -> float:
    return math.log10(float(value))


def _ends(units: Sequence[float]) -> tuple[float, float]:
    known = [each for each in units if math.isfinite(each)] or [0.0, 1.0]
    low, high = min(known), max(known)
    air = _AIR * (high - low) or max(0.1, _AIR * abs(high))
    return (low if low == 0 else low - air), high + air


def _ticks(layout: dict[str, Any], low: float, high: float, *, log: bool) -> Iterator[tuple[float, str]]:
    if (given := layout.get("tickvals")) is not None:
        texts = layout.get("ticktext")
        units = [_logarithm(value) if log else float(value) for value in given]
        yield from zip(units, map(str, texts if texts is not None else given), strict=True)
        return
    suffix, form = str(layout.get("ticksuffix") or ""), str(layout.get("tickformat") or "")
    for value in _powers(low, high) if log else _even(low, high):
        units_of = _logarithm(value) if log else value
        if low <= units_of <= high:
            yield units_of, f"{value:{form or 'g'}}{suffix}"


def _even(low: float, high: float) -> list[float]:
    rough = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    within = _STEPS[:1] if high - low > _DECADES else _STEPS[:3]
    return [each * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for each in within]
