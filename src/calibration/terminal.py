"""A calibration on the terminal, readable at 100 columns."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.calibration.intervals import mean_text, percent, rate_text, spread_text
from src.calibration.record import Calibration
from src.calibration.summary import LEAST_EXPERIMENTS, Status, Summary

_STYLES = {Status.MET: "green", Status.NOT_MET: "bold red", Status.UNDECIDED: "yellow"}
SAYS = {
    Status.MET: "all requirements are met",
    Status.NOT_MET: "not all requirements are met",
    Status.UNDECIDED: "too little counts to say",
}


def show(console: Console, done: Calibration) -> None:
    """Print the requirements, what else was found, and what to mind."""
    summary = done.summary
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{done.device['name']}: {SAYS[summary.status]}",
                  title_justify="left", title_style="bold")  # fmt: skip
    for head in ("requirement", "limit", "measured", ""):
        table.add_column(head)
    for each in summary.requirements:
        status = Text(str(each.status), _STYLES[each.status])
        table.add_row(each.text, each.limit, each.measured, status)
    console.print(table, "")
    if summary.groups:
        console.print(_groups(summary), "")
    for line in facts(summary):
        console.print(line, markup=False)
    for line in cautions(summary):
        console.print(Text(f"note: {line}", "yellow"))


def facts(summary: Summary) -> list[str]:
    """What was found beside the requirements, a line each."""
    lines = []
    if summary.built_second and summary.second_arm:
        lines.append(
            f"of equal copies, the one built second is faster by {mean_text(summary.built_second)}, the treated arm "
            f"by {mean_text(summary.second_arm)}"
        )
    if summary.preset:
        preset, least = summary.preset, summary.preset.smallest_found
        line = (
            f"measure={preset.name}: {preset.seconds_median:.1f} s per comparison (longest {preset.seconds_max:.1f} "
            f"s), {100 * preset.narrow.value:.0f} % ended by a narrow interval, half width "
            f"{100 * preset.half_width_median:.2f} %"
        )
        lines.append(f"{line}; finds slowdowns from {percent(least)} on" if least else line)
    return lines


def _groups(summary: Summary) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("put in", "found", "estimate off truth", "spread", "interval holds truth"):
        table.add_column(head)
    for group in summary.groups:
        table.add_row(
            percent(group.slowdown) if group.slowdown else "nothing",
            rate_text(group.hurts) if group.slowdown else "",
            mean_text(group.bias),
            spread_text(group.spread),
            rate_text(group.coverage),
        )
    return table


def cautions(summary: Summary) -> list[str]:
    """What to mind, and what to do about it."""
    lines = [f"{text}" for text in summary.trouble]
    if summary.crowded:
        lines.append(
            f"{_experiments(summary.crowded)} not count: other processes took CPU time that the measured threads "
            "needed; a quiet machine, or fewer threads (gpu=cpu gpu.threads=1)"
        )
    if any(each.status is Status.UNDECIDED for each in summary.requirements):
        lines.append(
            f"what is undecided needs more experiments that count: at least {LEAST_EXPERIMENTS} of a kind, in "
            "several processes (experiments=60 processes=12)"
        )
    return lines


def _experiments(number: int) -> str:
    return "1 experiment does" if number == 1 else f"{number} experiments do"
