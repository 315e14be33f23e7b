"""What a break-even search finds and what it takes, by simulation: the table of docs/breakeven.md.

    python -m benchmarks.breakeven

Curves are made up, or straight lines between the published M of each layer of the H100 and the H200, predicted from
the other one's cells. Each run has noise of 0.5 %; the grid beside it has noise of its own.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from src.forecasts.evidence.imports import read_imports
from src.forecasts.forecast import Forecaster, Query
from src.search.axis import Guess
from src.search.forecasts import guess_of
from src.search.found import BreakEven, break_evens
from tests.search.synthetic import VALUES, Curve, grid, published_curves, searched

PUBLISHED = Path(__file__).resolve().parents[1] / "outputs" / "published"
DEVICES = {"H100": "nvidia-h100-80gb-hbm3", "H200": "nvidia-h200"}
REPEATS = 20
MADE_UP: dict[str, Curve] = {
    "a slope (0.3 per e-fold)": lambda m: 0.3 * math.tanh(math.log(m) - 5.3),
    "a gentle slope (0.04)": lambda m: 0.04 * (math.log(m) - 5.3),
    "a cliff": lambda m: 0.7 if m <= 200 else -1.2,
    "a hump: two crossings": lambda m: 0.4 * math.exp(-(((math.log(m) - 5.3) / 1.5) ** 2)) - 0.2,
    "far below 1": lambda m: -0.5 + 0.02 * math.log(m),
    "1 everywhere": lambda m: 0.0,
}


def same(mine: BreakEven, wanted: BreakEven) -> bool:
    """Whether the two lie between values that overlap, in the same direction."""
    apart = mine.last.value > wanted.first.value or mine.first.value < wanted.last.value
    return mine.direction is wanted.direction and not apart


def overlap(mine: BreakEven, wanted: BreakEven) -> bool:
    """Whether the intervals do, that take curves for straight between values."""
    a, b = mine.at, wanted.at
    if a is None or b is None:
        return False
    return a.straight_low <= b.straight_high and b.straight_low <= a.straight_high


def row(name: str, curves: Sequence[Curve], guesses: Sequence[Sequence[Guess | None]] | None = None) -> str:
    """One line of the table."""
    taken, there, found, within, told, batches = 0, 0, 0, 0, 0, 0
    for seed in range(REPEATS):
        search = searched(curves, seed=seed, guesses=guesses)
        taken += len(search.asked)
        batches += search.batches
        for number, curve in enumerate(curves):
            mine = break_evens(search.searches[number])
            told += len(mine)
            for wanted in break_evens(grid(curve, seed=1000 + seed)):
                near = [each for each in mine if same(each, wanted)]
                there += 1
                found += bool(near)
                within += any(overlap(each, wanted) for each in near)
    whole = REPEATS * len(curves) * len(VALUES)
    parts = [
        name,
        str(len(curves)),
        f"{taken / whole:.0%}",
        f"{batches / REPEATS:.1f}",
        str(there // REPEATS),
    ]
    parts += [
        f"{found / there:.0%}" if there else "",
        f"{within / there:.0%}" if there else "",
        str(told - found),
    ]
    return f"| {' | '.join(parts)} |"


def predicted(
    curves: dict[tuple[str, int, int], Curve], device: str, known: pd.DataFrame
) -> list[list[Guess | None]]:
    """The forecast of each layer at each value, from another device's cells."""
    forecaster = Forecaster(known)
    place = (device, "default", "bfloat16")
    found = forecaster([Query(*place, m, k, n, quant) for quant, k, n in curves for m in VALUES])
    rows = zip(found["speedup"], found["low"], found["high"], strict=True)
    flat = [guess_of(*map(float, each)) for each in rows]
    return [flat[start : start + len(VALUES)] for start in range(0, len(flat), len(VALUES))]


def main() -> None:
    """Print the table."""
    heads = ["curves", "combinations", "of the grid's runs", "batches", "crossings of the grid"]
    heads += ["found", "intervals overlap", "found where the grid has none"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, curve in MADE_UP.items():
        print(row(name, [curve]))
    cells = {
        name: read_imports([str(PUBLISHED / at / "linear_grid.csv")], {}).cells
        for name, at in DEVICES.items()
    }
    for name, other in (("H100", "H200"), ("H200", "H100")):
        curves = published_curves(cells[name])
        print(row(f"{name}'s layers", [*curves.values()]))
        guesses = predicted(curves, str(cells[name]["device"].iloc[0]), cells[other])
        print(row(f"the same, predicted from the {other}'s", [*curves.values()], guesses))


if __name__ == "__main__":
    main()
