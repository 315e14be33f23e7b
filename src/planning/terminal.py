"""The matrix on the terminal; plain and unfolded where nobody reads it on one."""

import math
import sys
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.config.console import Terminal
from src.config.durations import duration
from src.config.lines import runs_in_words
from src.planning.closing import UNKNOWN, closing_lines
from src.planning.matrix import Fate, Matrix, PlannedRun, fates, hours, is_open
from src.planning.needs.memory import Forecast
from src.planning.parts import PARTS
from src.planning.teaching import sure_text

_STYLES = {
    Fate.RUN: "green",
    Fate.OOM: "bold red",
    Fate.TIMEOUT: "bold red",
    Fate.UNSUPPORTED: "yellow",
    Fate.DONE: "dim",
    Fate.UNDER_WAY: "dim",
    Fate.REPEATED: "dim",
}
_MOST_ROWS = 60  # of a table that need not be complete
_UNFOLDED = 1000  # columns


def print_matrix(matrix: Matrix, *, every: bool = False) -> None:
    """Print the plan to stdout.

    Args:
        every: a row for each run, however many.
    """
    reads = sys.stdout.isatty()
    console = Terminal(
        width=None if reads else _UNFOLDED, color_system="auto" if reads else None, highlight=False
    )
    most = len(matrix.runs) if every else _MOST_ROWS
    console.print(f"[bold]plan: {runs_in_words(len(matrix.runs))}; nothing was launched[/]\n")
    for table in (_axes(matrix), _groups(matrix), _runs(matrix, most), _reasons(matrix), _parts(matrix)):
        if table.row_count:
            _print(console, table)
    for line in closing_lines(matrix, most):
        console.print(escape(line))


def _print(console: Console, table: Table) -> None:
    if sys.stdout.isatty():
        console.print(table, "")
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()), end="\n\n")


def _table(title: str, **columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name, justify in columns.items():
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _axes(matrix: Matrix) -> Table:
    axes = matrix.axes()
    table = _table("Axes", axis="left", count="right", values="left")
    for name, values in axes.items():
        if len(values) > 1:
            table.add_row(name, str(len(values)), escape(" ".join(values)))
    fixed = " ".join(f"{name}={values[0]}" for name, values in axes.items() if len(values) == 1)
    table.add_row("the same in all", "", escape(fixed))
    return table


def _groups(matrix: Matrix) -> Table:
    table = _table(
        "By GPU", gpu="left", runs="right", outcome="left", most_GiB="right", card_GiB="right", hours="right",
        told_by="left", request="left",
    )  # fmt: skip
    for group in matrix.groups:
        runs = matrix.of(group)
        request = " ".join(f"{name}={value}" for name, value in group.request.items())
        table.add_row(
            escape(group.gpu), str(len(runs)), _fates(runs), _most(runs), _gib(group.card.memory_gib),
            f"{'≥ ' * is_open(runs)}{hours(runs):.2f}", escape(group.card.source), escape(request),
        )  # fmt: skip
    return table


def _runs(matrix: Matrix, most: int) -> Table:
    rows = matrix.rows(most)
    names = list(rows[0][0]) if rows else []
    table = _table("Runs")
    for name in names:  # a key, as it is typed
        table.add_column(name, overflow="fold")
    for name, justify in (("runs", "right"), ("outcome", "left"), ("GiB", "right"), ("time", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    predicted = any(run.promise and run.promise.verdict != UNKNOWN for run in matrix.runs)
    if predicted:
        table.add_column("predicted")
    cards = {group.name: group.card.memory_gib for group in matrix.groups}
    for values, runs in rows:
        tight = any(run.memory and run.memory.is_tight(cards[run.group]) for run in runs)
        table.add_row(
            *map(escape, values.values()), str(len(runs)), _fates(runs), _span(runs) + (" tight" if tight else ""),
            _time(runs), *([_promises(runs)] if predicted else []),
        )  # fmt: skip
    return table


def _time(runs: Sequence[PlannedRun]) -> str:
    """Of all runs together; of runs that nothing predicts what they take at least, if that is a second or more."""
    seconds = sum(run.seconds for run in runs)
    if is_open(runs):
        return f"at least {duration(seconds)}" if seconds >= 1 else "unknown"
    return duration(seconds)


def _promises(runs: Sequence[PlannedRun]) -> str:
    """``helps 1.30× (1.20-1.41), sure 99%`` of one run, of several how many get which verdict."""
    told = [run.promise for run in runs if run.promise]
    if len(told) != 1:
        counts = Counter(each.verdict for each in told)
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    (one,) = told
    if math.isnan(one.speedup):
        return one.verdict
    return f"{one.verdict} {one.speedup:.2f}× ({one.low:.2f}–{one.high:.2f}), sure {sure_text(one.sure)}"


def _reasons(matrix: Matrix) -> Table:
    table = _table(
        "Why not", outcome="left", runs="right", gpu="left", quant="left", why_and_what_instead="left"
    )
    said = matrix.reasons()
    for fate, reason, remedy, runs in said[:_MOST_ROWS]:
        reason = f"{_span(runs)} {reason}" if fate is Fate.OOM else reason
        why = f"{reason} → {remedy}" if remedy else reason
        gpus, schemes = (" ".join(dict.fromkeys(run.axes[name] for run in runs)) for name in ("gpu", "quant"))
        table.add_row(f"[{_STYLES[fate]}]{fate}[/]", str(len(runs)), *map(escape, (gpus, schemes, why)))
    if len(said) > _MOST_ROWS:
        table.caption = f"{len(said) - _MOST_ROWS} more reasons"
    return table


def _parts(matrix: Matrix) -> Table:
    """What the time goes into; of a part that a setting leaves out also the setting."""
    parts_s = matrix.parts_s()
    whole_s = sum(parts_s.values())
    table = _table(
        "Time", part="left", runs="right", per_run="right", in_all="right", share="right", left_out_by="left"
    )
    for name, seconds in parts_s.items():
        runs = [run for run in matrix.runs if not run.fate.is_skipped and run.estimate.parts_s.get(name)]
        per_run = f"{seconds / len(runs):.1f} s"
        table.add_row(
            name, str(len(runs)), per_run, duration(seconds), f"{seconds / whole_s:.0%}", PARTS[name].without
        )
    return table


def _fates(runs: Sequence[PlannedRun]) -> str:
    counts = fates(runs)
    if len(runs) == 1:
        return f"[{_STYLES[runs[0].fate]}]{runs[0].fate}[/]"
    return ", ".join(f"[{_STYLES[fate]}]{counts[fate]} {fate}[/]" for fate in Fate if counts[fate])


def _forecasts(runs: Sequence[PlannedRun]) -> list[Forecast]:
    return [run.memory for run in runs if run.memory and run.memory.built]


def _most(runs: Sequence[PlannedRun]) -> str:
    return _gib(max((each.peak_gib for each in _forecasts(runs)), default=None))


def _span(runs: Sequence[PlannedRun]) -> str:
    """The least and the most that the runs take."""
    peaks = [each.peak_gib for each in _forecasts(runs)]
    ends = list(dict.fromkeys(_gib(end(peaks)) for end in (min, max))) if peaks else []
    return "-".join(ends)


def _gib(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
