"""A whole model's speedup: its Linear layers' predicted times and the rest of the call, put together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from src.forecasts.models.rest import Rest

_UNKNOWN = math.log(2) / 1.645  # a layer that nothing predicts may become twice as fast, or as slow
_MOST_UNKNOWN = 0.05  # share of the unquantized time in such layers, beyond which nothing is said
_BORROWED = 0.12  # of a device by another's times: its ridge, and what is not Linear, may be others
_TOGETHER = 0.03  # standard deviation of log speedup: in a model layers have other clocks and caches


@dataclass(frozen=True)
class Layers:
    """All calls of the layers of one shape that are treated alike, in one call of the model."""

    M: int
    K: int
    N: int
    calls: int
    quant: str  # empty: unquantized
    baseline_ms: float  # of all these calls
    treated_ms: float
    speedup: float = math.nan  # of one such layer alone
    low: float = math.nan
    high: float = math.nan
    unknown: str = ""  # why nothing is predicted: it counts as unquantized
    left: str = ""  # why it is not quantized
    baseline_spread: float = 0.0  # standard deviation of the logarithm

    @property
    def spread(self) -> float:
        """Standard deviation of the log speedup."""
        if self.unknown:
            return _UNKNOWN
        return math.log(self.high / self.low) / (2 * 1.645) if self.quant else 0.0


@dataclass(frozen=True)
class Whole:
    """A model's call, unquantized and quantized, predicted."""

    layers: list[Layers]
    rest: Rest
    notes: list[str] = field(default_factory=list)
    borrowed: bool = False  # whether its times are another device's

    @property
    def baseline_ms(self) -> float:
        """Of the unquantized call."""
        return self.rest.ms + sum(each.baseline_ms for each in self.layers)

    @property
    def treated_ms(self) -> float:
        """Of the quantized call."""
        return self.rest.ms + sum(each.treated_ms for each in self.layers)

    @property
    def speedup(self) -> float:
        """How many times as fast the quantized call is."""
        return self.baseline_ms / self.treated_ms

    @property
    def share(self) -> float:
        """Of the unquantized time, in layers that are quantized."""
        return sum(each.baseline_ms for each in self.layers if each.quant) / self.baseline_ms

    @property
    def bound(self) -> float:
        """Amdahl's: the speedup if these layers took no time."""
        return 1 / (1 - self.share) if self.share < 1 else math.inf

    @property
    def withheld(self) -> str:
        """Why no speedup is said: too much of the time lies in layers of which nothing is known; else empty."""
        unknown = [each for each in self.layers if each.unknown]
        share = sum(each.baseline_ms for each in unknown) / self.baseline_ms
        if share <= _MOST_UNKNOWN:
            return ""
        worst = max(unknown, key=lambda each: each.baseline_ms)
        shape = f"{worst.M}x{worst.K}x{worst.N}"
        return f"{share:.0%} of the time is in layers that nothing predicts, most of it in {shape}: {worst.unknown}"

    @property
    def at_most(self) -> float:
        """The speedup if the layers of which nothing is known took no time."""
        known_ms = self.rest.ms + sum(each.treated_ms for each in self.layers if not each.unknown)
        return self.baseline_ms / known_ms if known_ms else math.inf

    def spread(self) -> float:
        """Standard deviation of the log speedup: what each doubt moves, squared and summed.

        The layers' doubts are taken to go together: a device that quantizes faster than predicted does so in all.
        """
        moved = [
            *(self._moved(layers=sign) for sign in (1, -1)),
            *(self._moved(times=sign) for sign in (1, -1)),
            *(self._moved(rest=sign) for sign in (1, -1)),
        ]
        doubts = [(one - other) / 2 for one, other in zip(moved[::2], moved[1::2], strict=True)]
        return math.hypot(*doubts, _TOGETHER, _BORROWED * self.borrowed)

    def _moved(self, layers: float = 0, times: float = 0, rest: float = 0) -> float:
        """The log speedup with one kind of number a standard deviation off."""
        base = np.array([each.baseline_ms * math.exp(times * each.baseline_spread) for each in self.layers])
        ratio = [each.treated_ms / each.baseline_ms * math.exp(layers * each.spread) for each in self.layers]
        subtracted = math.isfinite(self.rest.whole_ms) and not math.isfinite(self.rest.linear_ms)
        alone = max(0.0, self.rest.whole_ms - float(base.sum())) if subtracted and times else self.rest.ms
        other = alone * math.exp(rest * self.rest.spread)
        return math.log((other + base.sum()) / (other + float(base @ np.array(ratio))))


def put_together(layers: Sequence[Layers], rest: Rest, notes: Sequence[str] = ()) -> Whole:
    """The whole; where the call or its Linear layers were measured, the layers' times are made to fit in."""
    predicted_ms = sum(each.baseline_ms for each in layers)
    if math.isfinite(rest.linear_ms):
        fits = rest.linear_ms / predicted_ms
    else:
        fits = min(1.0, rest.whole_ms / predicted_ms) if math.isfinite(rest.whole_ms) else 1.0
    scaled = [
        replace(each, baseline_ms=each.baseline_ms * fits, treated_ms=each.treated_ms * fits)
        for each in layers
    ]
    return Whole(scaled, rest, list(notes))
