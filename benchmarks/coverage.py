"""How often the speedup's 95 % interval holds the truth, under the noise models of the tests.

    OMP_NUM_THREADS=1 python -m benchmarks.coverage > docs/coverage.md

Some 15 CPU minutes; `--experiments 200 --stopped 50` for a first look.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from src.statistics.stopping import StopRule
from tests.statistics.simulation import (
    AUTOCORRELATED,
    STRESS,
    WELL_BEHAVED,
    Coverage,
    Scenario,
    coverage,
    false_verdicts,
    in_turn_coverage,
    sequential_coverage,
    verdicts_at_the_margin,
)

SIZES = (12, 20, 30, 60, 100)
BLOCKS = 4  # pairs of them: src/measurement/power_blocks.py
NARROW = {"from 12 pairs to 2 %": (12, 0.02), "from 30 pairs to 1 %": (30, 0.01)}  # min_pairs, target width
CLEAR = ((0.05, 0.2), (0.4, 0.2), (0.4, 0.05), (1.3, 0.2), (1.3, 0.05))  # true speedup, measure.clear_width
IN_TURN: dict[str, dict[str, float]] = {
    "nothing": {},
    "a constant, 3 %": {"apart": 0.03},
    "a constant, 5 %": {"apart": 0.05},
    "a random walk, 3 %": {"walk": 0.03},
    "a random walk, 5 %": {"walk": 0.05},
    "a random walk, 10 %": {"walk": 0.1},
    "a step of 5 % in the gap": {"step": 0.05},
    "a step of 10 % in the gap": {"step": 0.1},
    "a step of 16 % in the gap": {"step": 0.16},
}
MARGIN = 0.02
MAX_PAIRS = 400
MEASURED = (*WELL_BEHAVED, *AUTOCORRELATED)
SCENARIOS = (*MEASURED, *STRESS)

INTRODUCTION = """# Coverage of the speedup's interval

How often does the 95 % interval hold the true speedup? Here the rounds are simulated, so the true speedup is known.
The tables give the share of experiments in which the interval held it.

Each number comes of {experiments} experiments with a fixed number of pairs (standard error of a share:
{error:.1f} %), or of {stopped} that a rule stopped ({stopped_error:.1f} %), with {samples} bootstrap samples per
interval. The noise models are in `tests/statistics/simulation.py`. [Words](words.md) explains pairs, arms and
verdicts. Made by

    OMP_NUM_THREADS=1 python -m benchmarks.coverage {options} > docs/coverage.md

**The promise**: 94 to 99 % at a fixed number of pairs from 12 on, 92 to 96 % where the rule ended the
measuring, if the log ratios of neighbouring pairs are independent, whatever the rounds do (drift, spikes,
switching clocks). **The exception**: autocorrelated ratios, AR(1), are covered less, the fewer pairs there are.
A dozen pairs cannot tell autocorrelation from luck. Intervals that allowed for it would be
several times too wide for all other noise.
"""


def main() -> None:
    """Print the tables as markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=2000, help="per cell")
    parser.add_argument(
        "--stopped", type=int, default=400, help="experiments per cell where a rule stops them"
    )
    parser.add_argument("--samples", type=int, default=300, help="bootstrap samples per estimate")
    parser.add_argument("--seed", type=int, default=1, help="the method was tuned on 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in ("experiments", "stopped", "samples", "seed")}
    print(
        INTRODUCTION.format(
            **given,
            error=_error(args.experiments),
            stopped_error=_error(args.stopped),
            options=" ".join(f"--{name} {value}" for name, value in given.items()),
        )
    )
    fixed = {"experiments": args.experiments, "samples": args.samples, "seed": args.seed}
    with ProcessPoolExecutor(args.jobs) as pool:
        _fixed(pool, fixed)
        _blocks(pool, fixed)
        _stopped(pool, fixed | {"experiments": args.stopped})
        _in_turn(pool, fixed)


def _fixed(pool: ProcessPoolExecutor, options: dict[str, int]) -> None:
    print("## At a fixed number of pairs\n")
    print(
        "In brackets: the median of the interval's relative width, then the 90th percentile of the width as a"
    )
    print("multiple of an ideal t-interval's, which knows the estimate's true standard deviation.\n")
    columns = {f"{pairs} pairs": partial(coverage, pairs=pairs, **options) for pairs in SIZES}
    _table(
        pool, SCENARIOS, columns, lambda found: f"{found.covered:.1%} ({found.width:.2%}, {found.wide:.2f})"
    )
    print("\n## A/A: share of `helps` or `hurts` between equal arms, margin 2 %\n")
    columns = {f"{pairs} pairs": partial(false_verdicts, pairs=pairs, **options) for pairs in SIZES}
    _table(pool, MEASURED, columns, "{:.2%}".format)


def _blocks(pool: ProcessPoolExecutor, options: dict[str, int]) -> None:
    print(f"\n## {BLOCKS} pairs, as of blocks at a GPU's power cap\n")
    print(
        "A block is the mean of 1.5 s of calls; here each is one value with the noise that is named. In brackets as"
    )
    print("in the first table. Then the share of `helps` or `hurts` between equal arms.\n")
    columns: dict[str, Callable] = {
        "coverage": partial(coverage, pairs=BLOCKS, **options),
        "A/A": partial(false_verdicts, pairs=BLOCKS, **options),
    }
    _table(pool, MEASURED, columns, _block_cell)


def _block_cell(found: Coverage | float) -> str:
    if isinstance(found, float):
        return f"{found:.2%}"
    return f"{found.covered:.1%} ({found.width:.2%}, {found.wide:.2f})"


def _stopped(pool: ProcessPoolExecutor, options: dict[str, int]) -> None:
    print(f"\n## Stopped by the rule, the interval being narrow, at most {MAX_PAIRS} pairs\n")
    print("In brackets: medians of the width and the number of pairs.\n")
    columns = {
        head: partial(sequential_coverage, rule=StopRule(pairs, MAX_PAIRS, width, budget_s=1), **options)
        for head, (pairs, width) in NARROW.items()
    }
    _table(pool, MEASURED, columns, _stopped_cell)
    print("\n## Stopped by a clear verdict (`measure.clear_width`), the interval given at 98 %\n")
    print(
        "A column per true speedup and clear_width. In brackets: medians of the width and the number of pairs.\n"
    )
    columns = {
        f"{speedup}x, {clear_width}": partial(
            sequential_coverage, rule=_clear_rule(clear_width), speedup=speedup, **options
        )
        for speedup, clear_width in CLEAR
    }
    _table(pool, MEASURED, columns, _stopped_cell)
    print("\n## Share of `helps` where the true speedup is the margin itself, 1.02, at most 60 pairs\n")
    print(
        "Measuring may end at any look for a clear verdict: at 3 pairs, then at a quarter more each time.\n"
    )
    rule = StopRule(12, 60, 0.01, budget_s=1, margin=MARGIN, clear_width=0.2)
    columns = {"clear_width 0.2": partial(verdicts_at_the_margin, rule=rule, **options)}
    _table(pool, MEASURED, columns, "{:.2%}".format)


def _in_turn(pool: ProcessPoolExecutor, options: dict[str, int]) -> None:
    print("\n## Equal arms measured in turn: intervals that hold 1, and false `helps` or `hurts`\n")
    print(
        "30 rounds of each arm with 1 % of noise; between the arms a gap twice as long. A column per "
        "`measure.in_turn_drift`.\n"
    )
    print("| what differs between the two spans of time | none | 0.05 (the default) |")
    print("|---|---:|---:|")
    for name, drift in IN_TURN.items():
        found = [pool.submit(in_turn_coverage, unseen, **options, **drift) for unseen in (0.0, 0.05)]
        cells = (f"{covered:.1%}, {wrong:.1%}" for covered, wrong in (each.result() for each in found))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _clear_rule(clear_width: float) -> StopRule:
    return StopRule(12, 150, 0.01, budget_s=1, margin=MARGIN, clear_width=clear_width)


def _error(experiments: int) -> float:
    return float(100 * (0.95 * 0.05 / experiments) ** 0.5)


def _table(
    pool: ProcessPoolExecutor, scenarios: tuple[Scenario, ...], columns: dict[str, Callable], cell: Callable
) -> None:
    print(f"| noise | {' | '.join(columns)} |")
    print(f"|---{'|---:' * len(columns)}|")
    rows = [
        (scenario, [pool.submit(_simulate, column, scenario.name) for column in columns.values()])
        for scenario in scenarios
    ]
    for scenario, futures in rows:
        print(f"| {scenario.name} | {' | '.join(cell(future.result()) for future in futures)} |", flush=True)


def _simulate(column: Callable, name: str) -> Coverage | float:
    return column(next(s for s in SCENARIOS if s.name == name))  # a scenario itself cannot be pickled


def _stopped_cell(found: Coverage) -> str:
    return f"{found.covered:.1%} ({found.width:.2%}, {found.pairs:.0f})"


if __name__ == "__main__":
    main()
