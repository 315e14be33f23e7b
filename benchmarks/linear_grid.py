"""Ways of timing one Linear on a GPU, held against CUDA graphs: does each say the same of quantization?

    python -m benchmarks.linear_grid                                  # what the published grid says of three ways
    python -m benchmarks.linear_grid --commands [--every N]           # sweeps of this program's probes on its layers
    python -m benchmarks.linear_grid --probes OUTPUTS                 # the records of those, against the grid
    python -m benchmarks.linear_grid --rows PROBES.jsonl              # what benchmarks.linear_probes wrote, likewise

A grid (outputs/published/*/linear_grid.csv: of an H100, and with --grid PATH of an H200) was measured by plain torch,
no part of this program: `speedup` by CUDA graphs over several weights, `blocked_speedup` behind a spin kernel,
`call_speedup` with launches.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from src.records.record import Outcome, read_record

GRID = (
    Path(__file__).resolve().parents[1]
    / "outputs" / "published" / "nvidia-h100-80gb-hbm3" / "linear_grid.csv"
)  # fmt: skip
MARGIN = 0.02
CLEAR = 0.05  # from 1, where a sign must be right
FIXED = (
    "model=linear model.factory.bias=true compile=default gpu=auto tracking=none "
    "measure.budget_s=1 measure.max_warmup_s=0.5 measure.warm_compile=false"
)

Cell = tuple[int, int, int, str]  # M, K, N, quant


@dataclass
class Agreement:
    """How often a way of timing says what the CUDA graphs say, counted in cells."""

    cells: int
    other_verdict: int
    helps: int  # by graph
    said_to_hurt: int  # of these
    clear: int  # more than 5 % away from 1 by graph
    right_sign: int  # of these
    apart: float  # median of how far the ratios are apart, relative

    def __str__(self) -> str:
        return (
            f"{self.cells} cells: another verdict in {self.other_verdict}; of {self.helps} that help "
            f"{self.said_to_hurt} said to hurt; sign right in {self.right_sign} of {self.clear} that are clear "
            f"({self.right_sign / max(self.clear, 1):.1%}); ratios {self.apart:.1%} apart (median)"
        )


def agreement(graph: Mapping[Cell, float], other: Mapping[Cell, float]) -> Agreement:
    """Compare the speedups of the cells that both have.

    Raises:
        ValueError: they have none in common.
    """
    pairs = [(graph[cell], other[cell]) for cell in graph if cell in other]
    if not pairs:
        raise ValueError("no cell of the grid among them: M, K, N and quant must be the same")
    helps = [pair for pair in pairs if _verdict(pair[0]) > 0]
    clear = [pair for pair in pairs if abs(pair[0] - 1) > CLEAR]
    return Agreement(
        cells=len(pairs),
        other_verdict=sum(_verdict(a) != _verdict(b) for a, b in pairs),
        helps=len(helps),
        said_to_hurt=sum(_verdict(b) < 0 for _, b in helps),
        clear=len(clear),
        right_sign=sum(not wrong_sign(*pair) for pair in clear),
        apart=median(abs(b / a - 1) for a, b in pairs),
    )


def wrong_sign(graph: float, other: float) -> bool:
    """Whether a cell that is clear by graph is said to be on the other side of 1."""
    return abs(graph - 1) > CLEAR and (graph > 1) != (other > 1)


def _verdict(speedup: float) -> int:
    """1: helps, -1: hurts, 0: neither."""
    return (speedup > 1 + MARGIN) - (speedup < 1 / (1 + MARGIN))


def grid(column: str, path: Path = GRID) -> dict[Cell, float]:
    """A column of the grid by cell."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            (int(row["M"]), int(row["K"]), int(row["N"]), row["quant"]): float(row[column])
            for row in csv.DictReader(file)
        }


def probes(outputs: Path) -> dict[Cell, float]:
    """The speedups of this program's finished runs of single Linear layers in a folder of outputs."""
    found = {}
    for path in sorted(outputs.glob("runs/*/*/record.json")):
        record = read_record(path)
        if record.outcome is Outcome.OK and record.shape and record.axes["model"] == "linear":
            m, k, n = (int(record.shape[name]) for name in "MKN")
            found[m, k, n, str(record.axes["quant"])] = record.metrics["speedup/ratio"]
    return found


def rows(path: Path) -> dict[Cell, float]:
    """The speedups of the cells that `benchmarks.linear_probes` timed."""
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["M"], row["K"], row["N"], row["quant"]): row["speedup"] for row in read if "speedup" in row}


def commands(cells: Sequence[Cell]) -> list[str]:
    """A sweep for each scheme."""
    by_quant: dict[str, list[str]] = defaultdict(list)
    for m, k, n, quant in cells:
        by_quant[quant].append(f"{{M:{m},K:{k},N:{n}}}")
    return [
        f"python -m src.run -m {FIXED} quant={quant} 'model.dims={','.join(dims)}'"
        for quant, dims in by_quant.items()
    ]


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="take each Nth cell only")
    parser.add_argument("--probes", type=Path, help="folder of outputs")
    parser.add_argument("--rows", type=Path, help="file of benchmarks.linear_probes")
    parser.add_argument(
        "--grid", type=Path, default=GRID, help="another device's (default: that of the H100)"
    )
    given = parser.parse_args()
    by_graph = grid("speedup", given.grid)
    if given.commands:
        print("\n".join(commands([*by_graph][:: given.every])))
    elif given.probes or given.rows:
        found = probes(given.probes) if given.probes else rows(given.rows)
        print(f"this program's probes: {agreement(by_graph, found)}")
        for cell in [cell for cell in found if cell in by_graph and wrong_sign(by_graph[cell], found[cell])]:
            print(
                "  M={} K={} N={} {}".format(*cell), f"by graph {by_graph[cell]:.3f}, here {found[cell]:.3f}"
            )
    else:
        for column, way in (("blocked_speedup", "behind a spin kernel"), ("call_speedup", "with launches")):
            print(f"{way}: {agreement(by_graph, grid(column, given.grid))}")


if __name__ == "__main__":
    main()
