"""How often the speedup's 95 % interval holds the truth, under the noise models of the tests.

    OMP_NUM_THREADS=1 python -m benchmarks.coverage > docs/coverage.md

2,000 experiments per cell (standard error 0.5 %), some 20 CPU minutes; `--experiments 200` for a first look.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from src.measurement.stopping import StopRule
from tests.measurement.simulation import (
    AUTOCORRELATED,
    STRESS,
    WELL_BEHAVED,
    Coverage,
    Scenario,
    coverage,
    false_verdicts,
    sequential_coverage,
)

SIZES = (12, 30, 100)
RULES = [(12, 0.02), (12, 0.01), (30, 0.02), (30, 0.01)]  # min_pairs, target width
MAX_PAIRS = 400
MEASURED = (*WELL_BEHAVED, *AUTOCORRELATED)
SCENARIOS = (*MEASURED, *STRESS)

INTRODUCTION = """# Coverage of the speedup's interval

Share of experiments in which the 95 % interval held the true speedup: {experiments} experiments per cell
(standard error of a share: {error:.1f} %), {samples} bootstrap samples per interval. In brackets the median
relative width of the interval. The noise models are in `tests/measurement/simulation.py`. Made by

    OMP_NUM_THREADS=1 python -m benchmarks.coverage {options} > docs/coverage.md
"""


def main() -> None:
    """Print the tables as markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=2000, help="per cell")
    parser.add_argument("--samples", type=int, default=500, help="bootstrap samples per estimate")
    parser.add_argument("--seed", type=int, default=1, help="the method was tuned on 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    error = 100 * (0.95 * 0.05 / args.experiments) ** 0.5
    options = {"experiments": args.experiments, "samples": args.samples, "seed": args.seed}
    given = " ".join(f"--{name} {value}" for name, value in options.items())
    print(INTRODUCTION.format(**options, error=error, options=given))
    with ProcessPoolExecutor(args.jobs) as pool:
        print("## At a fixed number of pairs\n")
        fixed = [partial(coverage, pairs=pairs, **options) for pairs in SIZES]
        _table(pool, SCENARIOS, [f"{pairs} pairs" for pairs in SIZES], fixed, _fixed_cell)
        print(f"\n## Stopped by the rule, at most {MAX_PAIRS} pairs (in brackets also the median pairs)\n")
        heads = [f"from {pairs} pairs to {width:.0%}" for pairs, width in RULES]
        rules = [StopRule(pairs, MAX_PAIRS, width, budget_s=1) for pairs, width in RULES]
        stopped = [partial(sequential_coverage, rule=rule, **options) for rule in rules]
        _table(pool, MEASURED, heads, stopped, _stopped_cell)
        print("\n## A/A: share of `helps` or `hurts` between equal arms, margin 2 %\n")
        equal = [partial(false_verdicts, pairs=pairs, **options) for pairs in SIZES]
        _table(
            pool,
            MEASURED,
            [f"{pairs} pairs" for pairs in SIZES],
            equal,
            "{:.2%}".format,
        )


def _table(
    pool: ProcessPoolExecutor,
    scenarios: tuple[Scenario, ...],
    heads: list[str],
    columns: list[Callable],
    cell: Callable,
) -> None:
    print(f"| noise | {' | '.join(heads)} |")
    print(f"|---{'|---:' * len(heads)}|")
    rows = [
        (scenario, [pool.submit(_simulate, column, scenario.name) for column in columns])
        for scenario in scenarios
    ]
    for scenario, futures in rows:
        print(f"| {scenario.name} | {' | '.join(cell(future.result()) for future in futures)} |", flush=True)


def _simulate(column: Callable, name: str) -> Coverage | float:
    return column(next(s for s in SCENARIOS if s.name == name))  # a scenario itself cannot be pickled


def _fixed_cell(found: Coverage) -> str:
    return f"{found.covered:.1%} ({found.width:.2%})"


def _stopped_cell(found: Coverage) -> str:
    return f"{found.covered:.1%} ({found.width:.2%}, {found.pairs:.0f})"


if __name__ == "__main__":
    main()
