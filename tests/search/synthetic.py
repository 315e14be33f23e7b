"""Made-up speedups along an axis, measured with noise, and those of the published H100 cells."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from src.search.axis import AxisSearch, Guess, Point
from src.search.question import axis_values
from src.search.search import Search, budget

Curve = Callable[[float], float]  # value -> log speedup
VALUES = axis_values(1, 16384, 1.25)
EDGE = math.log(1.02)
SWITCH = 16  # rows up to which int4wo's kernel is another one


def measured(value: int, curve: Curve, noise: float, rng: random.Random) -> Point:
    """A run with a 95 % interval of the noise's width."""
    log = curve(value) + rng.gauss(0, noise)
    low, high = log - 1.96 * noise, log + 1.96 * noise
    verdict = (
        "helps"
        if low > EDGE
        else "hurts"
        if high < -EDGE
        else "neutral"
        if low > -EDGE and high < EDGE
        else "inconclusive"
    )
    return Point(value, math.exp(log), math.exp(low), math.exp(high), verdict)


def searched(
    curves: Sequence[Curve],
    noise: float = 0.005,
    seed: int = 0,
    guesses: Sequence[Sequence[Guess | None]] | None = None,
    values: Sequence[int] = VALUES,
) -> Search:
    """The search over these combinations, come to its end; a value whose log speedup is nan is a hole."""
    rng = random.Random(seed)
    given = guesses or [[None] * len(values)] * len(curves)
    searches = [AxisSearch(values, each) for each in given]
    search = Search(searches, budget(searches))

    def measure(batch: list[tuple[int, int]]) -> list[Point | None]:
        assert len(set(search.asked)) == len(search.asked)
        return [told(values[index], curves[number]) for number, index in batch]

    def told(value: int, curve: Curve) -> Point:
        if math.isnan(curve(value)):
            return Point(value, why="unsupported: too few rows")
        return measured(value, curve, noise, rng)

    assert search.run(measure)
    return search


def grid(curve: Curve, noise: float = 0.005, seed: int = 1, values: Sequence[int] = VALUES) -> AxisSearch:
    """Every value measured."""
    rng, whole = random.Random(seed), AxisSearch(values)
    for index, value in enumerate(values):
        whole.tell(index, measured(value, curve, noise, rng))
    return whole


def published_curves(cells: pd.DataFrame) -> dict[tuple[str, int, int], Curve]:
    """By scheme, K and N: straight lines between the published M, and no further."""
    found: dict[tuple[str, int, int], Curve] = {}
    for (quant, k, n), rows in cells.groupby(["quant", "K", "N"]):
        ordered = rows.sort_values("M")
        m, log = ordered["M"].tolist(), np.log(ordered["speedup"]).tolist()
        if quant == "int4wo" and m == [1, 32]:
            found[str(quant), int(k), int(n)] = lambda value, log=log: log[0] if value <= SWITCH else log[1]  # type: ignore[misc]
        elif m[-1] >= 64 * m[0]:
            found[str(quant), int(k), int(n)] = lambda value, m=m, log=log: float(  # type: ignore[misc]
                np.interp(math.log(value), np.log(m), log)
            )
    return found
