"""What changed between two sets of runs: on the terminal, as one page, and as a table."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.analysis.comparison import (
    BROKE,
    FASTER,
    MENDED,
    NEITHER,
    PAYS_LESS,
    PAYS_MORE,
    SAME,
    SLOWER,
    UNDECIDED,
    Change,
    Compared,
    Comparison,
    Side,
)
from src.analysis.runs.frame import Row, devices
from src.analysis.runs.tracked.source import QUANTIZED
from src.analysis.verdicts import interval_text, milliseconds, speedup_text, treatment_text, workload_text
from src.report.graphics.markup import Cell, definitions, number_cell, table, text_cell
from src.report.graphics.palette import ENDED, VERDICTS, Look
from src.report.report import page_parts

_PAGE = Path(__file__).with_name("comparison.html")
_LOOKS: dict[str, Look] = {
    **dict.fromkeys((BROKE, SLOWER, PAYS_LESS), VERDICTS["hurts"]),
    **dict.fromkeys((MENDED, FASTER, PAYS_MORE), VERDICTS["helps"]),
    SAME: VERDICTS["neutral"], UNDECIDED: VERDICTS["inconclusive"], NEITHER: ENDED,
}  # fmt: skip
_STYLES = {"▲": "green", "▼": "red", "?": "yellow"}
_HEADS = ("What", "Workload", "Treatment", "ms", "Quantized, times faster", "Unquantized, times faster", "Speedup",
          "Speedup, times larger")  # fmt: skip
_MOST_ROWS = 40


def show(console: Console, found: Comparison, before: Side, after: Side, how: str) -> None:
    """Print what changed, the worst first; then what is on one side alone, and which versions differ."""
    columns = Table(
        title=f"from {before.name} to {after.name}", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for name in ("what", "workload", "treatment", "ms", "times faster", "speedup"):
        columns.add_column(name, overflow="fold")
    for cell in found.cells[:_MOST_ROWS]:
        row = cell.after
        glyph = _LOOKS[cell.what].glyph
        columns.add_row(
            Text(f"{glyph} {cell.what}", style=_STYLES.get(glyph, "dim")),
            *(Text(text) for text in (workload_text(row), _treatments(cell), _times(cell), _told(cell.time))),
            Text(_why(cell) or _speedups(cell)),
        )
    if len(found.cells) > _MOST_ROWS:
        columns.caption = f"{len(found.cells) - _MOST_ROWS} more rows in comparison.csv"
    console.print(columns, "")
    for line in [*_differing(found, before, after), *_alone(found)]:
        console.print(line, markup=False, soft_wrap=True)
    counts = ", ".join(f"{number} {what}" for what, number in found.counts().items())
    console.print(f"{counts or 'no run in common'}. {how}", markup=False)


def write(found: Comparison, before: Side, after: Side, how: str, folder: Path) -> list[Path]:
    """Write ``comparison.html`` and ``comparison.csv``; returns their paths."""
    page, csv = folder / "comparison.html", folder / "comparison.csv"
    style, script = page_parts()
    content = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        style=style,
        script=script,
        before=escape(before.name),
        after=escape(after.name),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        tally="".join(f"<li>{_chip(what)}<b>{number}</b></li>" for what, number in found.counts().items()),
        how=escape(how),
        cells=table(_HEADS, [_html_row(cell) for cell in found.cells]),
        versions=definitions(_versions(found, before, after)),
        alone="".join(f'<p class="note">{escape(line)}</p>' for line in _alone(found)),
    )
    page.write_text(content, encoding="utf-8")
    pd.DataFrame([_csv_row(cell) for cell in found.cells]).to_csv(csv, index=False)
    return [page, csv]


def _html_row(cell: Compared) -> list[Cell]:
    row = cell.after
    common = [
        Cell(_chip(cell.what), [*_LOOKS].index(cell.what)),
        text_cell(workload_text(row)),
        text_cell(_treatments(cell)),
    ]
    if why := _why(cell):
        return [*common, Cell(f'<span class="why">{escape(why)}</span>', columns=len(_HEADS) - len(common))]
    return [
        *common,
        Cell(escape(_times(cell)), number=True),
        *(_change_cell(change) for change in (cell.time, cell.baseline)),
        Cell(escape(_speedups(cell)), number=True),
        _change_cell(cell.speedup),
    ]


def _chip(what: str) -> str:
    look = _LOOKS[what]
    glyph = f'<span class="glyph" aria-hidden="true">{look.glyph}</span>'
    return f'<span class="chip" style="background:{look.tint}">{glyph}{escape(what)}</span>'


def _change_cell(change: Change | None) -> Cell:
    return number_cell(_told(change), change.ratio if change else None)


def _told(change: Change | None) -> str:
    return f"{change.ratio:.2f}× {change.low:.2f}–{change.high:.2f}" if change else ""


def _times(cell: Compared) -> str:
    before, after = (milliseconds(row["latency/median_ms"]) for row in (cell.before, cell.after))
    return f"{before or '–'} → {after or '–'}" if before or after else ""


def _speedups(cell: Compared) -> str:
    told = [f"{speedup_text(row)} {interval_text(row)}".strip() for row in (cell.before, cell.after)]
    if cell.why:
        return f"not compared, as {cell.why}"
    return " → ".join(text or "–" for text in told) if any(told) else ""


def _treatments(cell: Compared) -> str:
    """The treatment; both, where they go by other options as only one side knows these."""
    return " → ".join(dict.fromkeys(_treatment(row) for row in (cell.before, cell.after)))


def _treatment(row: Row) -> str:
    """Scheme and compile mode; of another treatment than quantizing what that is."""
    other = "" if row["treatment"] == QUANTIZED else f" [{row['step'] or row['treatment']}]"
    return f"{treatment_text(row)}{other}"


def _why(cell: Compared) -> str:
    """Of what does not run any more: how it ended. Of what was disturbed, or not measured alike: by what, in what."""
    if cell.what in (BROKE, MENDED, NEITHER):
        row = cell.before if cell.what == MENDED else cell.after
        return f"{row['outcome']}: {row['reason']}"
    sides = {"before": cell.before, "after": cell.after}
    if cell.why and cell.time is None:
        return f"nothing is said, as they were not measured alike: {cell.why}"
    disturbed = [f"{name}: {row['reason']}" for name, row in sides.items() if row["withheld"]]
    return f"nothing is said, as the measuring was disturbed {'; '.join(disturbed)}" if disturbed else ""


def _alone(found: Comparison) -> list[str]:
    """What has no counterpart, and what cannot be read."""
    lines = [*found.left_out]
    for frame, where in ((found.only_before, "before"), (found.only_after, "after")):
        if len(frame):
            named = [f"{workload_text(row)} {_treatment(row)}" for _, row in frame.head(5).iterrows()]
            more = f" and {len(frame) - 5} more" if len(frame) > 5 else ""
            lines.append(f"only {where}, {len(frame)} runs: {'; '.join(named)}{more}")
    return lines


def _differing(found: Comparison, before: Side, after: Side) -> list[str]:
    """The devices and versions that are not the same on both sides, as far as both say them."""
    both = _of_both(found, before, after)
    return [f"{name}: {one} → {other}" for name, one, other in both if one and other and one != other]


def _versions(found: Comparison, before: Side, after: Side) -> Sequence[tuple[str, str]]:
    return [
        (name, one if one == other else f"{one or 'unknown'} → {other or 'unknown'}")
        for name, one, other in _of_both(found, before, after)
    ]


def _of_both(found: Comparison, before: Side, after: Side) -> Iterator[tuple[str, str, str]]:
    """What each side was measured with: its name, before, after, empty where that is not known; the devices first."""
    met = (devices(pd.DataFrame({"device": _devices(found, side)})) for side in ("before", "after"))
    one, other = (", ".join(names) for names in met)
    yield "device", one, other
    first, second = before.versions(), after.versions()
    for name in {**first, **second}:
        yield name, first.get(name, ""), second.get(name, "")


def _devices(found: Comparison, side: str) -> list[str]:
    alone = found.only_before if side == "before" else found.only_after
    return [*dict.fromkeys([*(str(getattr(cell, side)["device"]) for cell in found.cells), *alone["device"]])]


def _csv_row(cell: Compared) -> dict[str, object]:
    row: dict[str, object] = {"what": cell.what, "workload": workload_text(cell.after)}
    row["treatment"] = _treatments(cell)
    for name, side in (("before", cell.before), ("after", cell.after)):
        row[f"{name}/run_key"] = side["run_key"].removeprefix(f"{name}/")
        row |= {f"{name}/{key}": side[key] for key in ("device", "outcome", "verdict")}
        row |= {f"{name}/{key}": side[key] for key in ("latency/median_ms", "latency/baseline_median_ms")}
        row |= {f"{name}/speedup/{end}": side[f"speedup/{end}"] for end in ("ratio", "ci_low", "ci_high")}
    changes = {"quantized": cell.time, "unquantized": cell.baseline, "speedup": cell.speedup}
    for name, change in changes.items():
        for part in ("ratio", "low", "high"):
            row[f"change/{name}/{part}"] = getattr(change, part) if change else None
    return row
