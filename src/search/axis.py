"""The search along one axis, for one combination of everything else: which values next, until the verdicts tell.

Between two measured values the logarithm of the speedup is taken for a random walk over the logarithm of the axis
(a Brownian bridge), around the forecast where there is one. So a cliff costs no more than a slope, and how likely a
verdict hides between two others alike is known. No clock, no Hydra, no chance: the same tellings, the same values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from src.statistics.errors import errors
from src.statistics.speedup import Verdict

_ROUGH = (
    0.2  # standard deviation of log speedup that one e-fold of the axis adds; of published layers 0.1 to 0.4
)
_DOUBT = 0.05  # probability of another verdict between two alike, from which one looks
_LOOKED = 8  # parts of the range: between values nearer than one of them nobody looks
_NEAREST = 4  # nor between values nearer than so many steps
_SURE = 0.85  # probability by a forecast at which the two values around a crossing that it predicts are taken
_MOST_PREDICTED = 3  # crossings of a forecast that are followed
_SIGNS = {Verdict.HELPS: 1, Verdict.HURTS: -1}
_END, _BRACKET, _EDGE = 4.0, 2.0, 1.0  # urgency, before what only might be
_TRUST = 0.5  # of the bridge's standard deviation: a forecast narrows it to no less


@dataclass(frozen=True)
class Guess:
    """A forecast: log speedup and its standard deviation."""

    log: float
    spread: float


@dataclass(frozen=True)
class Point:
    """What a run told; of one that told no speedup (unsupported, oom, killed) `why`, and the numbers are nan."""

    value: int
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    verdict: str = ""
    why: str = ""
    error: float = math.nan  # standard error of `log`, as recorded
    confidence: float = 0.95  # of low and high

    @property
    def measured(self) -> bool:
        """Whether there is a speedup."""
        return bool(self.verdict)

    @property
    def sign(self) -> int:
        """1 helps, -1 hurts, 0 neither."""
        return _SIGNS.get(Verdict(self.verdict), 0) if self.verdict else 0

    @property
    def log(self) -> float:
        """Of the speedup."""
        return math.log(self.ratio)

    @cached_property
    def noise(self) -> float:
        """Standard error of `log`."""
        return float(errors(math.log(self.low), math.log(self.high), self.error, self.confidence).error)


@dataclass(frozen=True)
class Want:
    """A value that is to be measured next."""

    index: int
    urgency: float  # above 1: it narrows a crossing; else the probability that something hides there
    cost: int  # runs that narrowing may still take, this one included


class AxisSearch:
    """One combination's search.

    Args:
        values: that may be measured, growing.
        guesses: the forecast of each value; None where nothing is known.
        margin: a speedup within it is neutral, relative.
    """

    def __init__(
        self, values: Sequence[int], guesses: Sequence[Guess | None] | None = None, margin: float = 0.02
    ) -> None:
        self.values, self.edge = list(values), math.log1p(margin)
        self.guesses = list(guesses) if guesses else [None] * len(values)
        self.points: dict[int, Point] = {}  # by index
        self._at = [math.log(value) for value in values]

    def tell(self, index: int, point: Point) -> None:
        """What came out at a value."""
        self.points[index] = point

    def wanted(self) -> list[Want]:
        """What to measure next, the most urgent first, at most one value between two neighbours; empty: done."""
        wants = list(self._first()) if not self.points else [*self._narrowing(), *self._looking()]
        return sorted(wants, key=lambda want: (-want.urgency, want.index))

    def brackets(self) -> list[tuple[int, int]]:
        """Neighbours that are decided, and not alike: indexes; values between that were measured are undecided."""
        decided = [index for index in self._measured() if self.points[index].sign]
        return [(a, b) for a, b in pairwise(decided) if self.points[a].sign != self.points[b].sign]

    def to_narrow(self) -> list[tuple[int, int]]:
        """Within the brackets: neighbours between which a verdict changes and values are left to measure."""
        found = set[tuple[int, int]]()
        for a, b in self.brackets():
            known = [index for index in self._measured() if a <= index <= b]
            found |= {(known[0], known[1]), (known[-2], known[-1])}
        return sorted(gap for gap in found if self._left(*gap))

    def _measured(self) -> list[int]:
        return sorted(index for index, point in self.points.items() if point.measured)

    def _left(self, a: int, b: int) -> list[int]:
        """Indexes between two that nothing is known of."""
        return [index for index in range(a + 1, b) if index not in self.points]

    # ---- the first values

    def _first(self) -> Iterator[Want]:
        ends = {0, len(self.values) - 1}
        for index in sorted(ends | set(self._predicted())):
            yield Want(index, _END if index in ends else _BRACKET, 1)

    def _predicted(self) -> Iterator[int]:
        """Around each crossing that the forecast has: the nearest values at which it is sure, on both sides."""
        signs = [0 if guess is None else 1 if guess.log > 0 else -1 for guess in self.guesses]
        turns = [i for i in range(len(signs) - 1) if signs[i] * signs[i + 1] < 0][:_MOST_PREDICTED]
        for turn in turns:
            for way, start in ((-1, turn), (1, turn + 1)):
                index = start
                while 0 <= index < len(signs) and signs[index] == signs[start]:
                    if self._surely(index):
                        yield index
                        break
                    index += way

    def _surely(self, index: int) -> bool:
        guess = self.guesses[index]
        return guess is not None and _normal(abs(guess.log) / guess.spread) >= _SURE

    # ---- narrowing what is known to be there

    def _narrowing(self) -> Iterator[Want]:
        pure = set(self.brackets())
        for a, b in self.to_narrow():
            left = self._left(a, b)
            kind = _BRACKET if (a, b) in pure else _EDGE
            cost = (
                1 + int(math.log2(len(left))) + ((a, b) in pure)
            )  # where it turns undecided, it has two edges
            yield Want(self._halving(a, b, left), kind + len(left) / len(self.values), cost)

    def _halving(self, a: int, b: int, left: list[int]) -> int:
        """The middle; with forecasts, once moved to what was measured, where they cross, but in the middle half."""
        middle = (self._at[a] + self._at[b]) / 2
        if self._has_guesses(a, b) and self.points[a].sign * self.points[b].sign < 0:
            inner = left[len(left) // 4 : len(left) - len(left) // 4]
            return min(inner, key=lambda index: (abs(self._expected(index, a, b)[0]), index))
        return min(left, key=lambda index: (abs(self._at[index] - middle), index))

    # ---- looking for what may be there

    def _looking(self) -> Iterator[Want]:
        known = self._measured()
        if not known:
            yield from self._into_holes()
            return
        taken = set(self.to_narrow()) | set(self.brackets())
        for a, b in [(None, known[0]), *pairwise(known), (known[-1], None)]:
            if (a, b) not in taken:
                left = self._beyond(a, b)
                if len(left) >= max(_NEAREST, len(self.values) // _LOOKED):
                    yield from self._doubted(a, b, left)

    def _beyond(self, a: int | None, b: int | None) -> list[int]:
        """Between two that were measured; beyond an outermost one up to the nearest hole."""
        if a is not None and b is not None:
            return self._left(a, b)
        if a is None:
            return self._left(max((index for index in self.points if index < (b or 0)), default=-1), b or 0)
        return self._left(a, min((index for index in self.points if index > a), default=len(self.values)))

    def _doubted(self, a: int | None, b: int | None, left: list[int]) -> Iterator[Want]:
        """Where a verdict against its neighbours' is likeliest; beyond an outermost one that grows, so the middle."""
        doubts = {index: self._doubt(index, a, b) for index in left}
        middle = left[len(left) // 2]
        likeliest = max(left, key=lambda index: (round(doubts[index], 2), -abs(index - middle), -index))
        if doubts[likeliest] > _DOUBT:
            inside = a is not None and b is not None
            cost = 1 + int(math.log2(len(left)))
            yield Want(likeliest if inside else middle, min(doubts[likeliest], 0.99), cost)

    def _into_holes(self) -> Iterator[Want]:
        """Nothing told a speedup so far: the middle of the widest part, twice at most beyond the ends."""
        asked = [-1, *sorted(self.points), len(self.values)]
        parts = [left for a, b in pairwise(asked) if (left := self._left(a, b))]
        if parts and len(self.points) < _NEAREST:
            widest = max(parts, key=lambda left: self._at[left[-1]] - self._at[left[0]])
            middle = (self._at[widest[0]] + self._at[widest[-1]]) / 2
            yield Want(min(widest, key=lambda index: abs(self._at[index] - middle)), _EDGE, 1)

    def _doubt(self, index: int, a: int | None, b: int | None) -> float:
        """Probability that a value has a verdict against those of its measured neighbours."""
        mean, spread = self._expected(index, a, b)
        signs = {self.points[each].sign for each in (a, b) if each is not None}
        helps, hurts = _normal((mean - self.edge) / spread), _normal((-self.edge - mean) / spread)
        return max(0.0 if 1 in signs else helps, 0.0 if -1 in signs else hurts)

    def _expected(self, index: int, a: int | None, b: int | None) -> tuple[float, float]:
        """Log speedup at a value between two measured ones, or beyond one, and its standard deviation."""
        with_guesses = self._has_guesses(index if a is None else a, index if b is None else b)
        ends = [each for each in (a, b) if each is not None]
        steps = {each: abs(self._at[index] - self._at[each]) for each in ends}
        whole = sum(steps.values())
        shares = {each: 1.0 if len(ends) == 1 else 1 - steps[each] / whole for each in ends}
        variance = _ROUGH**2 * (whole if len(ends) == 1 else math.prod(steps.values()) / whole)
        noise = sum((shares[each] * self.points[each].noise) ** 2 for each in ends)
        mean = sum(shares[each] * self.points[each].log for each in ends)
        if with_guesses:
            guess = self._guess(index)
            mean += guess.log - sum(shares[each] * self._guess(each).log for each in ends)
            variance = min(variance, max(guess.spread**2, _TRUST**2 * variance))
        return mean, math.sqrt(variance + noise) or 1e-9

    def _has_guesses(self, a: int, b: int) -> bool:
        return all(guess is not None for guess in self.guesses[min(a, b) : max(a, b) + 1])

    def _guess(self, index: int) -> Guess:
        guess = self.guesses[index]
        assert guess is not None
        return guess


def _normal(z: float) -> float:
    """The share of a standard normal below z."""
    return math.erfc(-z / math.sqrt(2)) / 2
