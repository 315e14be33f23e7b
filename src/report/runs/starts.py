"""The report's section on packages: what code that is compiled ahead of time saves when a model starts."""

from collections.abc import Iterator

import pandas as pd

from src.analysis.runs.frame import MODES_OF, Row
from src.analysis.verdicts import milliseconds, treatment_text, workload_text
from src.report.graphics.markup import Cell, number_cell, table, text_cell
from src.report.runs.filters import Filters
from src.report.runs.sections import section
from src.report.runs.tables import per_device

START, COLD, CACHED = (f"package/{name}" for name in ("start_s", "compile_cold_s", "compile_cached_s"))
_HEADS = (
    "Workload",
    "Treatment",
    "Package, ms",
    "Cached, ms",
    "Cold, ms",
    "Size, MiB",
    "Built in, s",
    "A call, ms",
    "Compiled, ms",
)
_NOTE = (
    "From loaded weights to the end of the first call, each in a fresh process: from the package, by torch.compile "
    "with what an earlier process left in its cache, and with an empty one. A call: steady state; compiled: that of "
    "another run, by torch.compile, the fastest of the same scheme. Busy: other processes took time meanwhile."
)


def starts_section(runs: pd.DataFrame, filters: Filters) -> str:
    """A row per run of packages; nothing where there are none."""
    packaged = packages(runs)
    if packaged.empty:
        return ""

    def rows_of(rows: pd.DataFrame) -> str:
        each = [row for _, row in rows.iterrows()]
        names = ("model", "device", "dtype", "scheme")
        return table(
            _HEADS, [_row(row, runs) for row in each], [filters.attribute(row, *names) for row in each]
        )

    return section("Starting from a package", _NOTE, per_device(packaged, rows_of))


def starts_in_words(runs: pd.DataFrame) -> Iterator[str]:
    """A sentence on what packages save when a model starts, where there are any."""
    packaged = packages(runs)
    if packaged.empty:
        return
    saved = {name: packaged[name] - packaged[START] for name in (CACHED, COLD)}
    count = f"{len(packaged)} package{'s' * (len(packaged) > 1)}"
    told = " and ".join(
        f"{_seconds(saved[name])} against torch.compile {how}"
        for name, how in ((CACHED, "from its cache"), (COLD, "with an empty one"))
    )
    busy = " Other processes kept the machine busy meanwhile." * bool(packaged["withheld"].any())
    yield f"Compiled ahead of time: {count} started in {_seconds(packaged[START])}, which saves {told}.{busy}"


def packages(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose start was measured."""
    return runs[runs[START].notna()] if START in runs else runs.iloc[:0]


def _row(row: Row, runs: pd.DataFrame) -> list[Cell]:
    times = [1000 * float(row[name]) for name in (START, CACHED, COLD)]
    beside = _compiled_ms(row, runs)
    return [
        text_cell(workload_text(row)),
        text_cell(f"{treatment_text(row)}{' (busy)' * bool(row['withheld'])}"),
        *(number_cell(milliseconds(value), value) for value in times),
        number_cell(f"{row['package/size_mib']:.1f}", row["package/size_mib"]),
        number_cell(f"{row['package/build_s']:.0f}", row["package/build_s"]),
        number_cell(milliseconds(row["latency/median_ms"]), row["latency/median_ms"]),
        number_cell(milliseconds(beside), beside),
    ]


def _compiled_ms(row: Row, runs: pd.DataFrame) -> float | None:
    """The steady state of the same scheme by torch.compile, where it was measured; of several modes the fastest."""
    others = runs[(runs["compile"] != "none") & ~runs.index.isin(packages(runs).index)]
    for name in (*MODES_OF, "quant"):
        others = others[(others[name] == row[name]) | (others[name].isna() & pd.isna(row[name]))]
    fastest = others["latency/median_ms"].min()
    return None if pd.isna(fastest) else float(fastest)


def _seconds(values: "pd.Series[float]") -> str:
    low, high = values.min(), values.max()
    return f"{low:.3g} s" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g} s"
