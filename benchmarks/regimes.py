"""How well forecasts hold where nothing was measured, on the published cells: the table of docs/regimes.md.

    python -m benchmarks.regimes                     of two GPUs and two CPUs, published, each by itself
    python -m benchmarks.regimes FILE.csv ...        the cells of other files, by device
    python -m benchmarks.regimes --together          all devices of a kind in one fit

Left out is one shape, one (K, N), one M, one model's width, one device, of every fit; then it is predicted.
"""

import argparse
import tarfile
import tempfile
from itertools import groupby
from pathlib import Path

import pandas as pd

from src.analysis.runs.recorded import recorded
from src.forecasts.evidence.cells import is_cpu, own_cells
from src.forecasts.evidence.imports import read_imports
from src.regimes.rivals import RIVALS
from src.regimes.trials import Trial, trials

PUBLISHED = Path(__file__).resolve().parents[1] / "outputs" / "published"
GRIDS = sorted(PUBLISHED.glob("*/linear_grid.csv"))
RECORDS = (
    PUBLISHED / "amd-epyc-zen-5-avx-512-bf16-2-threads" / "records.tar.gz",
    PUBLISHED / "amd-epyc-zen-3-avx2-2-threads" / "layers_records.tar.gz",
)
MARGIN = 0.02
HEAD = (
    *(
        "left out",
        "cells (> 10 % off 1)",
        "right",
        "wrong",
        "unknown",
        "error",
        "within 25 %",
        "interval holds",
    ),
    *RIVALS,
)


def published() -> pd.DataFrame:
    """The cells of the published grids, and of the CPUs' records."""
    grids = read_imports([str(path) for path in GRIDS], {}).cells
    return pd.concat([grids, *map(published_records, RECORDS)], ignore_index=True)


def published_records(archive: Path) -> pd.DataFrame:
    """The cells of published records."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as records:
        records.extractall(folder, filter="data")
        runs, _ = recorded(Path(folder), MARGIN)
    return own_cells(runs)


def row(own: Trial, rivals: list[Trial]) -> str:
    """One line of the table, as Markdown: the forecasts, and how many verdicts each rival got right."""
    shares = (
        own.right,
        own.wrong,
        own.unknown,
        own.error,
        own.within,
        own.covered,
        *(r.right for r in rivals),
    )
    cells = [own.left_out, f"{own.cells} ({own.far})", *(f"{share:.1%}" for share in shares)]
    return "| " + " | ".join(cells) + " |"


def show(name: str, cells: pd.DataFrame) -> None:
    """Print the table of some cells."""
    print(f"\n### {name}, {len(cells)} cells\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for _, tried in groupby(trials(cells, MARGIN), key=lambda trial: trial.left_out):
        own, *rivals = tried
        print(row(own, rivals))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="CSV files of shapes")
    parser.add_argument("--together", action="store_true", help="all devices of a kind in one fit")
    given = parser.parse_args()
    cells = read_imports(given.files, {}).cells if given.files else published()
    by = (
        cells["device"].map(is_cpu).map({True: "CPUs", False: "accelerators"})
        if given.together
        else cells["device"]
    )
    for name, rows in cells.groupby(by, sort=False):
        show(str(name), rows.reset_index(drop=True))


if __name__ == "__main__":
    main()
