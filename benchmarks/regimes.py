"""How well forecasts hold where nothing was measured, on the published cells: the table of docs/regimes.md.

    python -m benchmarks.regimes                     the published H100, H200 and CPU cells, each device by itself
    python -m benchmarks.regimes FILE.csv ...        the cells of other files, by device
    python -m benchmarks.regimes --together          all devices of a kind in one fit

Left out is one shape, one (K, N), one M, one model's width, one device, of every fit; then it is foretold.
"""

import argparse
import io
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

from src.analysis.recorded import recorded
from src.regimes.cells import is_cpu, own_cells
from src.regimes.imports import read_imports
from src.regimes.trials import Trial, trials

PUBLISHED = Path(__file__).resolve().parents[1] / "outputs" / "published"
GRIDS = sorted(PUBLISHED.glob("*/linear_grid.csv"))
RECORDS = PUBLISHED / "amd-epyc-zen-5-avx-512-bf16-2-threads" / "records.tar.gz"
MARGIN = 0.02
HEAD = (
    "left out",
    "by",
    "cells (> 10 % off)",
    "right",
    "wrong",
    "unknown",
    "error",
    "within 25 %",
    "interval holds",
)


def published() -> pd.DataFrame:
    """The cells of the published grids, and of the CPU's records."""
    grids = read_imports([str(path) for path in GRIDS], {}).cells
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=io.BytesIO(RECORDS.read_bytes())) as records,
    ):
        records.extractall(folder, filter="data")
        runs, _ = recorded(Path(folder), MARGIN)
    return pd.concat([grids, own_cells(runs)], ignore_index=True)


def row(trial: Trial) -> str:
    """One line of the table, as Markdown."""
    shares = (trial.right, trial.wrong, trial.unknown, trial.error, trial.within, trial.covered)
    cells = [trial.left_out, trial.way, f"{trial.cells} ({trial.far})"]
    return "| " + " | ".join([*cells, *("" if share != share else f"{share:.1%}" for share in shares)]) + " |"


def show(name: str, cells: pd.DataFrame) -> None:
    """Print the table of some cells."""
    print(f"\n### {name}, {len(cells)} cells\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for trial in trials(cells, MARGIN):
        print(row(trial))


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
