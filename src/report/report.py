"""The report: one HTML file that works offline, its page in page.html."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template

import pandas as pd

from src.analysis.answers.advice import Advised
from src.analysis.provenance import Provenance
from src.analysis.runs.frame import devices
from src.analysis.runs.tracked.kept import kept_folder
from src.analysis.weighed import Weighed
from src.config.errors import ConfigError
from src.regimes.regimes import Regimes
from src.report.answer_cards import answer_section
from src.report.graphics.markup import chip
from src.report.graphics.palette import VERDICTS
from src.report.regimes.maps import Shown, maps_with_ground, regime_maps_section
from src.report.regimes.roofline import roofline_section
from src.report.regimes.sections import regimes_sections
from src.report.runs.filters import Filters
from src.report.runs.ladder import ladder_section
from src.report.runs.left import left_section
from src.report.runs.links import RunLinks
from src.report.runs.pictures import pictures_section
from src.report.runs.sections import (
    breakeven_section,
    curves_section,
    forest_section,
    heatmap_section,
    memory_section,
    protocol_section,
    verdicts_section,
)
from src.report.runs.starts import starts_section
from src.report.runs.weighed import weighed_section
from src.report.training.section import training_section

REPORT_NAME = "report.html"
_CLASSES = {"helps": "helps", "pays": "helps", "starts to pay": "helps", "hurts": "hurts"}
_TELLING = re.compile(
    r"\b(helps|pays|hurts|makes no difference|is inconclusive|starts to pay|stops paying|did not run)\b"
)
_HEADING = re.compile(r'<h2 id="([^"]*)"><a[^>]*>(.*?)</a></h2>')
_PAGE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Report:
    """What a report tells; `runs` are the standing rows."""

    runs: pd.DataFrame
    breakeven: pd.DataFrame
    sentences: list[str]
    provenance: Provenance
    warnings: list[str]
    margin: float
    source: str
    regimes: Regimes | None = None
    answers: Sequence[Advised] = ()
    unanswered: int = 0  # workloads beside those
    outputs: Path = Path("outputs")  # where the runs' folders are
    left: pd.DataFrame = field(default_factory=pd.DataFrame)  # runs that sweeps left to the forecast
    steps: pd.DataFrame = field(default_factory=pd.DataFrame)  # of ladders, and with other treatments
    trainings: pd.DataFrame = field(default_factory=pd.DataFrame)  # from scratch: task=train
    weighed: Sequence[Weighed] = ()  # of layers=sensitive

    @property
    def every(self) -> pd.DataFrame:
        """The runs, and those that are shown apart and can be filtered too."""
        return pd.concat([self.runs, self.trainings]) if len(self.trainings) else self.runs


def report_folder(folder: Path) -> Path:
    """The folder, made where it is not there yet.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"report={folder}: cannot be made ({error.strerror})") from error
    return folder


def write_report(report: Report, folder: Path, tables: Iterable[Path]) -> Path:
    """Write ``report.html``, self-contained, and return its path.

    Args:
        report: what it tells.
        folder: where it is written.
        tables: those that this analysis wrote beside it; of another one's nothing is said.

    Raises:
        ConfigError: it cannot be written.
    """
    path = folder / REPORT_NAME
    try:
        path.write_text(page(report, folder, tables), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report={folder}: {path.name} cannot be written ({error.strerror})") from error
    return path


def page(report: Report, folder: Path, tables: Iterable[Path] = ()) -> str:
    """The report as HTML.

    Args:
        report: what it tells.
        folder: it will be in.
        tables: beside it, which are linked to.
    """
    runs, filters = report.every, Filters(report.every)
    sections = "\n".join(_sections(report, filters, RunLinks(report.outputs, folder)))
    told = runs if len(runs) or report.regimes is None else report.regimes.cells
    named = devices(told) or list(dict.fromkeys(told["device"]))
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        source=escape(report.source),
        device=escape(named[0] if len(named) == 1 else f"{len(named)} devices"),
        dates=_dates(runs),
        tally=_tally(report.runs),
        answers=answer_section(report.answers, report.unanswered),
        filters=filters.html(),
        links=_links(sections),
        files=_files(tables),
        style=_part("css"),
        script=_part("js"),
        words="".join(f"<li>{_emphasised(sentence)}</li>" for sentence in report.sentences),
        warnings=_warnings(report.warnings),
        sections=sections,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def page_parts() -> tuple[str, str]:
    """The style sheet of the report's page and its script, for other pages of its kind."""
    return _part("css"), _part("js")


def _part(kind: str) -> str:
    return _PAGE.with_suffix(f".{kind}").read_text(encoding="utf-8")


def _links(sections: str) -> str:
    """Links to the sections, by their headings."""
    return "".join(f'<a href="#{name}">{title}</a>' for name, title in _HEADING.findall(sections))


def _files(tables: Iterable[Path]) -> str:
    names = [path.name for path in tables]
    told = ", ".join(f'<a href="{name}">{name}</a>' for name in names)
    return f" Beside this file: {told}." if told else ""


def _sections(report: Report, filters: Filters, links: RunLinks) -> Iterator[str]:
    with ThreadPoolExecutor(1) as beside:
        yield from _in_order(report, filters, links, beside.submit(_maps, report))


def _maps(report: Report) -> Shown:
    kept = kept_folder(report.outputs) if len(report.runs) else None
    return maps_with_ground(report.regimes, report.runs, report.margin, kept) if report.regimes else Shown([])


def _in_order(report: Report, filters: Filters, links: RunLinks, maps: Future[Shown]) -> Iterator[str]:
    runs, margin = report.runs, report.margin
    found = report.regimes
    if len(report.steps):
        yield ladder_section(report.steps, margin)
    if found is not None and runs.empty:
        yield training_section(runs, filters, report.outputs, report.trainings, margin)
        yield regime_maps_section(maps.result(), filters)
        yield from regimes_sections(found)
        return
    yield verdicts_section(runs, filters, links)
    yield forest_section(runs, margin, filters)
    yield weighed_section(report.weighed)
    yield pictures_section(runs, filters, report.outputs)
    yield training_section(runs, filters, report.outputs, report.trainings, margin)
    yield memory_section(runs, margin)
    yield breakeven_section(runs, report.breakeven, filters)
    yield curves_section(runs, margin, filters)
    yield heatmap_section(runs, filters)
    if found is not None:
        yield regime_maps_section(maps.result(), filters)
    yield roofline_section(runs, filters)
    yield starts_section(runs, filters)
    yield from regimes_sections(found) if found is not None else ()
    if len(report.left):
        yield left_section(report.left)
    yield protocol_section(runs, report.provenance, margin)


def _emphasised(sentence: str) -> str:
    """A sentence with its verdicts set off."""
    return _TELLING.sub(
        lambda found: f'<b class="{_CLASSES.get(found[1], "")}">{found[1]}</b>', escape(sentence)
    )


def _tally(runs: pd.DataFrame) -> str:
    """Chips with counts: the verdicts, then the outcomes without one."""
    ended = runs.loc[runs["verdict"] == "", "outcome"].value_counts()
    counts = [(name, int((runs["verdict"] == name).sum())) for name in VERDICTS]
    counts += [(str(name), int(count)) for name, count in ended.items()]
    return "".join(f"<li>{chip(name)}<b>{count}</b></li>" for name, count in counts if count)


def _warnings(warnings: list[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<aside class="warnings"><h3>Before you trust the numbers</h3><ul>{items}</ul></aside>'


def _dates(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "no runs of one's own"
    first, last = (f"{value:%Y-%m-%d}" for value in (runs["started_at"].min(), runs["started_at"].max()))
    return first if first == last else f"{first} to {last}"
