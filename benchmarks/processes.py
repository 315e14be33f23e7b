"""False verdicts and coverage where processes differ: a run alone, and among other runs of its device.

    OMP_NUM_THREADS=1 python -m benchmarks.processes > docs/processes.md

2,000 experiments per cell (standard error of a coverage 0.5 %), some 5 CPU minutes; `--experiments 200` for a
first look.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.statistics.simulated_processes import (
    Outcome,
    alone,
    among,
    by_few,
    by_formula,
    by_rounds,
    outcome,
)

BETWEEN = (0.0, 0.01, 0.03)
COUNTS = (1, 2, 3, 5)
OTHERS = ((4, 2), (6, 3), (20, 3))  # runs, processes of each
AMONG = (1, 2, 3)

INTRODUCTION = """# Runs in several processes: coverage and false verdicts

A run is measured in one process or in several, and separate processes differ. Here runs are simulated whose treatment
has no effect. Their processes differ in the speedup by a standard deviation of 0, 1 and 3 %. Each entry gives

1. the share of 95 % intervals that hold the truth (coverage);
2. after the `/`, the share of false `helps` and `hurts` at a margin of 2 %;
3. in brackets, the median relative width of the interval.

{experiments} experiments per entry (standard error of a coverage: {error:.1f} %). Made by

    OMP_NUM_THREADS=1 python -m benchmarks.processes {options} > docs/processes.md
"""
ALONE = """## Nothing else is known of the device

Each process has 40 pairs of rounds with 1 % of noise, estimated as a run does it. A run in one process keeps the
interval within that process, which does not cover the differences between processes. Its record says so.
"""
BESIDE = """
## Other runs of the device are known

`python -m src.analyze` learns from them how far processes differ. Each process has a normal error of 0.3 %.
"""
NOISY = """
## The other runs are known less well

A loop that ended early has few pairs, and an interval at 98 %; blocks at the power cap are 4 pairs. One process with
an error of 0.3 % stands among such runs. Where they do not tell how far processes differ, it keeps its own interval
and says so. So here only the intervals count that say they hold it; the last number is their share.
"""
FEW = {  # other runs -> pairs, standard error, confidence of the interval
    "ended clear at 7 pairs, error 1.1%": (7, 0.011, 0.98),
    "ended clear at 3 pairs, error 2%": (3, 0.02, 0.98),
    "4 pairs of blocks, error 0.6%": (4, 0.006, 0.95),
}


def main() -> None:
    """Print the tables as markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=2000, help="per cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes of this simulation")
    args = parser.parse_args()
    error = 100 * (0.95 * 0.05 / args.experiments) ** 0.5
    given = f"--experiments {args.experiments} --seed {args.seed}"
    print(INTRODUCTION.format(experiments=args.experiments, error=error, options=given))
    with ProcessPoolExecutor(args.jobs) as pool:
        run = partial(pool.submit, _cell, args.experiments, args.seed)
        print(ALONE)
        _table([(_named(count), partial(run, count, None)) for count in COUNTS])
        print(BESIDE)
        beside = [(count, others) for others in OTHERS for count in AMONG]
        _table(
            [(f"{_named(count)}, {o[0]} other runs of {o[1]}", partial(run, count, o)) for count, o in beside]
        )
        print(NOISY)
        few = [(others, kind) for kind in FEW for others in OTHERS[1:]]
        _table(
            [
                (
                    f"{o[0]} other runs of {o[1]}, {kind}",
                    partial(pool.submit, _few, args.experiments, args.seed, o, kind),
                )
                for o, kind in few
            ],
            shares=True,
        )


def _named(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def _cell(experiments: int, seed: int, count: int, others: tuple[int, int] | None, between: float) -> Outcome:
    if others is None:
        return outcome(experiments, alone(count, between, by_rounds()), seed)
    runs, each = others
    return outcome(experiments, among(count, between, by_formula(), runs=runs, each=each), seed)


def _few(experiments: int, seed: int, others: tuple[int, int], kind: str, between: float) -> Outcome:
    runs, each = others
    pooled = among(1, between, by_formula(), runs=runs, each=each, others=by_few(*FEW[kind]))
    return outcome(experiments, pooled, seed, told=True)


def _table(rows: list[tuple[str, Callable]], *, shares: bool = False) -> None:
    print(f"| | {' | '.join(f'{between:.0%} between processes' for between in BETWEEN)} |")
    print(f"|---{'|---:' * len(BETWEEN)}|")
    futures = [(name, [cell(between) for between in BETWEEN]) for name, cell in rows]
    for name, cells in futures:
        told = (
            f"{o.covered:.1%} / {o.false:.1%} ({o.width:.1%}){f', {o.told:.0%}' if shares else ''}"
            for o in (cell.result() for cell in cells)
        )
        print(f"| {name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
