"""Redo the table of where quantization pays, in README.md and docs/results.md: ``python docs/make_where_table.py``.

Of every single Linear layer in the published grids of the two GPUs. Each group of a scheme's layers is a row and each
layer is in one group, so that nothing is left out. `helps` and `hurts` are of the point estimate: these cells are
single samples.
"""

import csv
import re
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GRIDS = {
    "H100": ROOT / "outputs" / "published" / "nvidia-h100-80gb-hbm3" / "linear_grid.csv",
    "H200": ROOT / "outputs" / "published" / "nvidia-h200" / "linear_grid.csv",
}
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]
MARGIN = 0.02
_LARGE = 30e6  # weights of a layer, between the grids' 9.4 and 37.7 million
_ANY = (0.0, float("inf"))
_BETWEEN = re.compile(r"(<!-- where:begin -->\n).*?(<!-- where:end -->)", re.DOTALL)


@dataclass(frozen=True)
class Group:
    """Layers of a scheme whose weights (K x N) and rows (M) lie in these ranges; the upper end does not belong."""

    quant: str
    says: str
    weights: tuple[float, float] = _ANY
    rows: tuple[float, float] = _ANY

    def has(self, cell: dict[str, str]) -> bool:
        """Whether a line of a grid is one of these layers."""
        weights, rows = int(cell["K"]) * int(cell["N"]), int(cell["M"])
        return (
            cell["quant"] == self.quant
            and self.weights[0] <= weights < self.weights[1]
            and self.rows[0] <= rows < self.rows[1]
        )


SMALL, LARGE = (0.0, _LARGE), (_LARGE, float("inf"))
GROUPS = [
    Group("float8dq", "37.7 M weights or more, any M", LARGE),
    Group("float8dq", "9.4 M weights or fewer, M from 4,096 on", SMALL, (4096, float("inf"))),
    Group("float8dq", "9.4 M weights or fewer, M up to 1,024", SMALL, (0, 4096)),
    Group("float8_e4m3_row", "37.7 M weights or more, M from 1,024 on", LARGE, (1024, float("inf"))),
    Group("float8_e4m3_row", "37.7 M weights or more, M = 1", LARGE, (0, 2)),
    Group("float8_e4m3_row", "37.7 M weights or more, M = 256", LARGE, (2, 1024)),
    Group("float8_e4m3_row", "9.4 M weights or fewer, M from 4,096 on", SMALL, (4096, float("inf"))),
    Group("float8_e4m3_row", "9.4 M weights or fewer, M up to 1,024", SMALL, (0, 4096)),
    Group("int4wo", "M = 1", rows=(0, 2)),
    Group("int4wo", "M = 32", rows=(2, float("inf"))),
    Group("int8dq", "everywhere, M from 32 on"),
    Group("float8wo", "everywhere"),
    Group("int8wo", "everywhere, M = 1 and 32"),
]


def cells(path: Path) -> list[dict[str, str]]:
    """The lines of a grid."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def told(quant: str, says: str, found: list[list[float]]) -> str:
    """A row: of each device how many layers help, and their slowest and fastest."""
    counts = [f"{sum(x > 1 + MARGIN for x in speedups)} of {len(speedups)}" for speedups in found]
    ranges = [f"{min(speedups):.2f}–{max(speedups):.2f}×" for speedups in found]
    return f"| `{quant}` | {says} | {' / '.join(counts)} | {' | '.join(ranges)} |"


def table() -> str:
    """The whole table, as Markdown."""
    grids = [cells(path) for path in GRIDS.values()]
    rows = [
        (group.quant, group.says, [[float(c["speedup"]) for c in grid if group.has(c)] for grid in grids])
        for group in GROUPS
    ]
    head = f"| scheme | layers | help, {' / '.join(GRIDS)} | {' | '.join(GRIDS)} |\n|---|---|---|---|---|\n"
    return head + "\n".join(starmap(told, rows)) + "\n"


def page_with(page: str, made: str) -> str:
    """The page with the table between its markers."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{made}{found[2]}", page)


def main() -> None:
    """Rewrite the pages."""
    for path in PAGES:
        path.write_text(page_with(path.read_text(encoding="utf-8"), table()), encoding="utf-8")


if __name__ == "__main__":
    main()
