"""The report's section on packages: what code that is compiled ahead of time saves when a model starts."""

from collections.abc import Iterator
from html import escape
from textwrap import wrap

import pandas as pd

from src.analysis.runs.frame import MODES_OF, Row, alike
from src.analysis.runs.reasons import disturbances, is_busy
from src.analysis.verdicts import milliseconds, treatment_text, workload_text
from src.report.graphics.described import Figure
from src.report.graphics.markup import Cell, legend, number_cell, table, text_cell
from src.report.graphics.palette import Line
from src.report.runs.filters import Filters
from src.report.runs.sections import panel, section
from src.report.runs.tables import per_device

START, COLD, CACHED = (f"package/{name}" for name in ("start_s", "compile_cold_s", "compile_cached_s"))
_HEADS = (
    "Workload",
    "Treatment",
    "Package, s",
    "Cached, s",
    "Cold, s",
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
_WAYS = {  # how a model starts -> the metric, in which colour and with which symbol
    "from a package": (START, Line("#0072B2", "circle", "solid")),
    "torch.compile, cached": (CACHED, Line("#CC79A7", "diamond", "solid")),
    "torch.compile, empty cache": (COLD, Line("#8C564B", "square", "solid")),
}
_MOST_DRAWN = 24  # rows of a figure
_WIDTH, _ROW, _WIDEST = 560, 40, 30  # px, px, characters of a label's line


def starts_section(runs: pd.DataFrame, filters: Filters) -> str:
    """A row per run of packages; nothing where there are none."""
    packaged = packages(runs)
    if packaged.empty:
        return ""

    def rows_of(rows: pd.DataFrame) -> str:
        each = [row for _, row in rows.iterrows()]
        names = ("model", "device", "dtype", "scheme")
        cells = [_row(row, runs) for row in each]
        drawn = panel("Seconds to the first result", "", _figure(each[:_MOST_DRAWN]), width=_WIDTH)
        return f"{keys}{drawn}{table(_HEADS, cells, [filters.attribute(row, *names) for row in each])}"

    lines = {name: line for name, (_, line) in _WAYS.items()}
    keys = legend(lines, lines)
    return section("Starting from a package", _NOTE, per_device(packaged, rows_of))


def _figure(rows: list[Row]) -> Figure:
    """A row per run, from top to bottom, with a mark for each way to start; logarithmic."""
    labels = [_label(row) for row in rows]
    figure = Figure(60 + _ROW * len(rows))
    for name, (metric, line) in _WAYS.items():
        times = [float(row[metric]) for row in rows]
        each = zip(labels, times, strict=True)
        told = [f"{label.replace('<br>', ' ')}, {name}: {time:.3g} s" for label, time in each]
        figure.add_scatter(
            x=times, y=labels, mode="markers", name=escape(name),
            marker={"color": line.colour, "symbol": line.symbol, "size": 10},
            customdata=told,
        )  # fmt: skip
    figure.update_yaxes(categoryarray=labels[::-1], showgrid=False)
    figure.update_xaxes(type="log", ticksuffix=" s", title="from loaded weights")
    return figure


def _label(row: Row) -> str:
    return "<br>".join(map(escape, [*wrap(_treatment(row), _WIDEST), workload_text(row)]))


def _treatment(row: Row) -> str:
    return f"{treatment_text(row)}{' (busy)' * bool(row['withheld'] and is_busy(str(row['reason'])))}"


def starts_in_words(runs: pd.DataFrame) -> Iterator[str]:
    """A sentence per device on what packages save when a model starts, where there are any."""
    for device, packaged in packages(runs).groupby("device", sort=False):
        yield f"Compiled ahead of time on {device}: {_started(packaged)}"


def _started(packaged: pd.DataFrame) -> str:
    saved = {name: packaged[name] - packaged[START] for name in (CACHED, COLD)}
    count = f"{len(packaged)} package{'s' * (len(packaged) > 1)}"
    told = " and ".join(
        f"{_seconds(saved[name])} against torch.compile {how}"
        for name, how in ((CACHED, "from its cache"), (COLD, "with an empty one"))
    )
    causes = disturbances(packaged.loc[packaged["withheld"], "reason"])
    busy = "".join(f" {why[0].upper()}{why[1:]} meanwhile." for why, _ in causes if not why.startswith("as "))
    return f"{count} started in {_seconds(packaged[START])}, which saves {told}.{busy}"


def packages(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose start was measured."""
    return runs[runs[START].notna()] if START in runs else runs.iloc[:0]


def _row(row: Row, runs: pd.DataFrame) -> list[Cell]:
    times = [float(row[name]) for name in (START, CACHED, COLD)]
    beside = _compiled_ms(row, runs)
    return [
        text_cell(workload_text(row)),
        text_cell(_treatment(row)),
        *(number_cell(milliseconds(value), value) for value in times),
        number_cell(f"{row['package/size_mib']:.1f}", row["package/size_mib"]),
        number_cell(f"{row['package/build_s']:.0f}", row["package/build_s"]),
        number_cell(milliseconds(row["latency/median_ms"]), row["latency/median_ms"]),
        number_cell(milliseconds(beside), beside),
    ]


def _compiled_ms(row: Row, runs: pd.DataFrame) -> float | None:
    """The steady state of the same scheme by torch.compile, where it was measured; of several modes the fastest."""
    compiled = (runs["compile"] != "none") & ~runs["withheld"]
    others = runs[compiled & ~runs.index.isin(packages(runs).index)]
    fastest = alike(others, row, (*MODES_OF, "quant", "variant"))["latency/median_ms"].min()
    return None if pd.isna(fastest) else float(fastest)


def _seconds(values: "pd.Series[float]") -> str:
    low, high = (f"{value:.2g}" if value < 100 else f"{value:.0f}" for value in (values.min(), values.max()))
    return f"{values.min():.3g} s" if low == high else f"{low} to {high} s"
