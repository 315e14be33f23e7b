"""Redo the table of where quantization pays, in README.md and docs/results.md: ``python docs/make_where_table.py``.

Of every single Linear layer that was measured on the two GPUs: by this program, with intervals, and by plain torch,
single samples. Each group of a scheme's layers is a row and each layer is in one group, so that nothing is left out.
What helps is by the lower end of the interval, of single samples by the point estimate.
"""

import csv
import re
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ROOT / "outputs" / "published"
SOURCES = {  # cells with intervals, and single samples
    "H200, this program": _FOLDERS / "nvidia-h200" / "layers.csv",
    "H200, plain torch": _FOLDERS / "nvidia-h200" / "linear_grid.csv",
    "H100, plain torch": _FOLDERS / "nvidia-h100-80gb-hbm3" / "linear_grid.csv",
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

    def has(self, cell: "Cell") -> bool:
        """Whether a layer is one of these."""
        return (
            cell.quant == self.quant
            and self.weights[0] <= cell.weights < self.weights[1]
            and self.rows[0] <= cell.rows < self.rows[1]
        )


@dataclass(frozen=True)
class Cell:
    """One layer with one scheme."""

    quant: str
    rows: int
    weights: int
    speedup: float
    helps: bool


SMALL, LARGE = (0.0, _LARGE), (_LARGE, float("inf"))
GROUPS = [
    Group("float8dq", "37.7 M weights or more, any M", LARGE),
    Group("float8dq", "9.4 M weights or fewer, M from 2,048 on", SMALL, (2048, float("inf"))),
    Group("float8dq", "9.4 M weights or fewer, M up to 1,024", SMALL, (0, 2048)),
    Group("float8_e4m3_row", "37.7 M weights or more, M from 1,024 on", LARGE, (1024, float("inf"))),
    Group("float8_e4m3_row", "37.7 M weights or more, M from 16 to 512", LARGE, (2, 1024)),
    Group("float8_e4m3_row", "37.7 M weights or more, M = 1", LARGE, (0, 2)),
    Group("float8_e4m3_row", "9.4 M weights or fewer, M from 2,048 on", SMALL, (2048, float("inf"))),
    Group("float8_e4m3_row", "9.4 M weights or fewer, M up to 1,024", SMALL, (0, 2048)),
    Group("int4wo", "M = 1", rows=(0, 2)),
    Group("int4wo", "M from 16 on", rows=(2, float("inf"))),
    Group("int8dq", "everywhere, M from 32 on"),
    Group("float8wo", "everywhere"),
    Group("int8wo", "everywhere, M = 1 and 32"),
]


def cells(path: Path) -> list[Cell]:
    """The lines of a grid."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_cell(row) for row in csv.DictReader(file)]


def _cell(row: dict[str, str]) -> Cell:
    speedup = float(row["speedup"])
    helps = float(row.get("low", speedup)) > 1 + MARGIN
    return Cell(row["quant"], int(row["M"]), int(row["K"]) * int(row["N"]), speedup, helps)


def told(quant: str, says: str, found: list[list[Cell]]) -> str:
    """A row: of each source how many layers help, and their slowest and fastest."""
    return f"| `{quant}` | {says} | {' | '.join(map(_told_of, found))} |"


def _told_of(layers: list[Cell]) -> str:
    if not layers:
        return "not measured"
    speedups = [cell.speedup for cell in layers]
    helping = sum(cell.helps for cell in layers)
    return f"{helping} of {len(layers)}: {min(speedups):.2f}–{max(speedups):.2f}×"


def table() -> str:
    """The whole table, as Markdown."""
    found = [cells(path) for path in SOURCES.values()]
    rows = [
        (group.quant, group.says, [[cell for cell in layers if group.has(cell)] for layers in found])
        for group in GROUPS
    ]
    head = f"| scheme | layers | {' | '.join(SOURCES)} |\n|---|---|{'---|' * len(SOURCES)}\n"
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
