"""How many of a grid's verdicts a part of its time gives, by replay: the table of docs/planning.md.

    python -m benchmarks.budget                     the H100's and the H200's cells, and made-up devices

A run of the grid is predicted, chosen and "measured" as under `launch.budget`: its cell's speedup is what comes out.
A verdict counts as given if it was measured, or if the one that is predicted at the end is that of the grid.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.regimes import published
from src.forecasts.costs import Array, Costs
from src.forecasts.evidence.cells import PLACE, SHAPE, is_cpu
from src.forecasts.evidence.known import known_cells
from src.forecasts.forecast import UNKNOWN, Forecaster, Query
from src.planning.teaching import Lesson, next_lessons
from src.statistics.speedup import Verdict
from tests.forecasts import synthetic

MARGIN = 0.02
Grid = tuple[pd.DataFrame, pd.DataFrame, Array]  # its cells, those known before, seconds of each run
SHARES = (0.1, 0.25, 0.5)
RUN_S = 20.0  # of a process that measures a layer for a moment
CALLS = 400  # of each arm, in its rounds
MADE_UP = range(30, 40)  # devices; others were looked at when choosing what a run teaches
ROUNDS = 20  # at most, between which the rules are fitted anew


@dataclass(frozen=True)
class Told:
    """What is known of a grid's verdicts at the end."""

    measured: int
    right: int
    wrong: int
    open: int  # unknown, or no verdict is likely enough

    @property
    def runs(self) -> int:
        """Of the grid."""
        return self.right + self.wrong + self.open


def verdict(speedup: float) -> str:
    """Of a cell that has no interval."""
    edge = math.log1p(MARGIN)
    return str(
        Verdict.HELPS
        if math.log(speedup) > edge
        else Verdict.HURTS
        if math.log(speedup) < -edge
        else Verdict.NEUTRAL
    )


def predicted(grid: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """A forecast for each cell of the grid."""
    if known.empty:
        return pd.DataFrame({"verdict": [UNKNOWN] * len(grid), "sure": 0.0})
    return Forecaster(known, MARGIN)(
        [Query(*row) for row in grid[[*PLACE, *SHAPE, "quant"]].itertuples(index=False)]
    )


def lessons(grid: pd.DataFrame, told: pd.DataFrame, seconds: Array) -> list[Lesson]:
    """The grid's runs as a sweep with a budget sees them."""
    sure = np.where(told["verdict"] == UNKNOWN, 0.0, told["sure"].fillna(0.0))
    shapes = grid[SHAPE].itertuples(index=False, name=None)
    return [
        Lesson(float(s), float(p), shape, quant)
        for s, p, shape, quant in zip(seconds, sure, shapes, grid["quant"], strict=True)
    ]


def replay(grid: pd.DataFrame, before: pd.DataFrame, seconds: Array, share: float) -> Told:
    """Spend a share of the grid's time."""
    budget_s = share * float(seconds.sum())
    measured: list[int] = []
    while True:
        left = [index for index in range(len(grid)) if index not in measured]
        told = predicted(grid, pd.concat([before, grid.iloc[measured]], ignore_index=True))
        every = lessons(grid, told, seconds)
        spent_s = float(seconds[measured].sum())
        chosen = next_lessons(
            [every[i] for i in left], [every[i] for i in measured], budget_s / ROUNDS, budget_s - spent_s
        )
        if not chosen:
            return counted(grid, told, measured)
        measured += [left[index] for index in chosen]


def at_random(grid: pd.DataFrame, before: pd.DataFrame, seconds: Array, share: float, seed: int) -> Told:
    """The same time spent on runs in random order."""
    order = np.random.default_rng(seed).permutation(len(grid))
    measured = order[np.cumsum(seconds[order]) <= share * seconds.sum()].tolist()
    return counted(
        grid, predicted(grid, pd.concat([before, grid.iloc[measured]], ignore_index=True)), measured
    )


def counted(grid: pd.DataFrame, told: pd.DataFrame, measured: Sequence[int]) -> Told:
    """What is right, wrong and open."""
    truth = grid["speedup"].map(verdict).to_numpy()
    said = told["verdict"].to_numpy(dtype=object)
    said[list(measured)] = truth[list(measured)]
    opinion = np.isin(said, [str(each) for each in (Verdict.HELPS, Verdict.HURTS, Verdict.NEUTRAL)])
    right = int((said == truth).sum())
    return Told(len(measured), right, int((opinion & (said != truth)).sum()), int((~opinion).sum()))


def lines(name: str, grids: Sequence[Grid]) -> None:
    """Print the lines of some grids, put together; the least share of right verdicts of one of them beside it."""
    for share in SHARES:
        told = [replay(*grid, share) for grid in grids]
        random = [at_random(*grid, share, seed) for grid in grids for seed in range(5)]
        runs, by_chance = sum(each.runs for each in told), sum(each.right for each in random) / 5
        least = f" (least {min(each.right / each.runs for each in told):.1%})" if len(told) > 1 else ""
        counts = [sum(getattr(each, what) for each in told) for what in ("right", "wrong", "open")]
        right, *others = (f"{count / runs:.1%}" for count in counts)
        measured = sum(each.measured for each in told)
        print(
            f"| {name} | {runs} | {share:.0%} | {measured} | {right}{least} | {' | '.join(others)} | "
            f"{by_chance / runs:.1%} |",
            flush=True,
        )


def made_up(number: int) -> pd.DataFrame:
    """The cells of a device whose costs are the synthetic one's, each changed by up to a factor of two."""
    random = np.random.default_rng(number)

    def changed(costs: Costs) -> Costs:
        names = Costs.__dataclass_fields__
        return replace(costs, **{name: getattr(costs, name) * 2 ** random.uniform(-1, 1) for name in names})

    base, treated = (
        changed(synthetic.BASE),
        {name: changed(costs) for name, costs in synthetic.TREATED.items()},
    )
    kept = synthetic.BASE, dict(synthetic.TREATED)
    try:
        synthetic.BASE = base
        synthetic.TREATED.update(treated)
        return synthetic.made_cells(noise=0.02)
    finally:
        synthetic.BASE = kept[0]
        synthetic.TREATED.update(kept[1])


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print("| grid | runs | of its time | measured | verdicts right | wrong | open | runs at random |")
    print("|---|---|---|---|---|---|---|---|")
    known = known_cells().assign(source="")
    for device, cells in known.groupby("device"):
        grid, same = cells.reset_index(drop=True), np.full(len(cells), RUN_S)
        lines(f"{device}, nothing known before", [(grid, known.iloc[:0], same)])
        lines(f"{device}, the other known", [(grid, known[known["device"] != device], same)])
    cells = published()
    cpu = cells[cells["device"].map(is_cpu)].reset_index(drop=True)
    lines(f"{cpu['device'].iloc[0]}, nothing known before", [(cpu, cpu.iloc[:0], taken_s(cpu))])
    made = [made_up(number) for number in MADE_UP]
    lines(f"{len(made)} made-up devices", [(grid, grid.iloc[:0], taken_s(grid)) for grid in made])


def taken_s(grid: pd.DataFrame) -> Array:
    """Seconds of each run: what any takes, and its rounds, longer for a larger layer."""
    return RUN_S + CALLS * (grid["baseline_ms"] + grid["treated_ms"]).to_numpy() / 1e3


if __name__ == "__main__":
    main()
