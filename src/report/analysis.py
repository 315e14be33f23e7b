"""The way of one analysis: read runs, tidy, tell, write the report, log it."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from src.analysis.answers.advice import advised
from src.analysis.answers.picks import answers
from src.analysis.ladder import others
from src.analysis.provenance import Provenance, provenance, warnings
from src.analysis.runs.apart import Apart, asked_sweep
from src.analysis.runs.frame import compared, model_level, standing, tidied, tidy
from src.analysis.runs.layer_tables import layer_tables
from src.analysis.runs.left import left_to_forecast, write_left_out
from src.analysis.runs.tracked.kept import kept_folder
from src.analysis.runs.tracked.logbook import Logbook
from src.analysis.runs.tracked.opening import NoDatabaseError
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.schemes import write_schemes
from src.analysis.shapes import breakeven_table
from src.analysis.verdicts import write_tables
from src.analysis.weighed import weighed
from src.app.composing.runs import run_configs
from src.app.listing import scheme_aliases, scheme_names
from src.config.console import Terminal
from src.config.errors import ConfigError
from src.config.noise import quiet_libraries
from src.config.paths import command
from src.config.schema.root import MODEL, AnalyzeConf
from src.forecasts.evidence.imports import read_imports
from src.regimes.predictions import Question, predict, write_predictions
from src.regimes.regimes import Regimes, regimes
from src.report import terminal
from src.report.logged import entry
from src.report.regimes.sections import published
from src.report.regimes.sections import show as show_regimes
from src.report.report import Report, report_folder, write_report
from src.report.runs.ladder import ladder_in_words
from src.report.runs.left import left_in_words
from src.report.training.scratch import trained_in_words
from src.report.unchanged import Told
from src.report.words import sentences


def analyze(conf: AnalyzeConf, console: Console | None = None) -> int:
    """Read the tracked runs and imports, print verdicts and forecasts, write and log the report.

    Returns:
        0 with a report, 1 when the experiment has no finished runs yet and nothing was imported.

    Raises:
        ConfigError: no such store, experiment or sweep, or the report's folder cannot be written.
    """
    console = console or Terminal(highlight=False, width=None if sys.stdout.isatty() else 100)
    try:
        tracker = Tracker(conf.tracking, conf.experiment)
    except ConfigError as error:
        if not conf.imports and not conf.predict:
            raise
        return _without_runs(
            conf, _no_runs(conf) if isinstance(error, NoDatabaseError) else str(error), console
        )
    told = Told(conf, console)
    if told.untouched:
        told.again()
        return 0
    with Logbook(tracker) as logbook:
        return _of_runs(conf, tracker, logbook, told, console)


def _of_runs(conf: AnalyzeConf, tracker: Tracker, logbook: Logbook, told: Told, console: Console) -> int:
    read = tracker.attempts(kept_folder(Path(conf.outputs)), told.same)
    if read is None:
        told.again()
        return 0
    attempts, notes = read
    for line in notes:
        console.print(f"note: {line}", soft_wrap=True, markup=False)
    frame, apart = tidied(attempts, conf.margin), Apart.of(attempts, conf)
    if frame.empty:
        why = f"experiment={tracker.experiment}: no finished runs yet in {tracker.uri}; {command('run')} makes one"
        return _without_runs(conf, why, console, apart)
    frame = _only_sweep(frame, conf, also=apart.any)
    folder, outputs = report_folder(Path(conf.report)), Path(conf.outputs)
    runs = standing(frame)
    learned = _regimes(conf, runs, tracker)  # a wrong import= ends the analysis: nothing is written before
    breakeven = breakeven_table(runs, kept_folder(outputs))
    with ThreadPoolExecutor(1) as beside:
        written = beside.submit(write_tables, frame, breakeven, folder)  # hardly any of it is Python's
        left = left_to_forecast(outputs, conf.sweep, attempts["run_key"].tolist())
        report = replace(_report(conf, tracker, frame, breakeven, apart, learned), left=left)
        tables = write_predictions(learned, folder)
        tables += write_left_out(report.left, folder)
        tables += write_schemes(report.runs, outputs, scheme_names(), report.provenance.versions, folder)
        tables = [*written.result(), *tables]
    paths = [write_report(report, folder, tables), *tables]
    told.wrote(paths)
    logbook.start(entry(conf, report, paths))
    _show(console, report)
    if why := logbook.finish():  # the report is on disk, so a tracker gone away is only said
        console.print(f"the analysis could not be logged to {tracker.uri}: {why}", markup=False)
    terminal.closing(console, paths[0], tracker.view_hint, report.answers)
    if not why and not notes and not report.provenance.more:
        told.keep()
    return 0


def _report(
    conf: AnalyzeConf,
    tracker: Tracker,
    frame: pd.DataFrame,
    breakeven: pd.DataFrame,
    apart: Apart,
    learned: Regimes,
) -> Report:
    runs, outputs = standing(frame), Path(conf.outputs)
    found = provenance(runs, outputs, tracker)
    answered, unanswered = answers(runs, others(apart.steps) if len(apart.steps) else None)
    return Report(
        runs=runs,
        breakeven=breakeven,
        sentences=sentences(runs, breakeven, conf.margin),
        provenance=found,
        warnings=warnings(runs, found, replaced=len(frame) - len(runs)),
        margin=conf.margin,
        source=f"experiment {tracker.experiment}" + (f", sweep {conf.sweep}" if conf.sweep else ""),
        regimes=learned,
        unanswered=unanswered,
        outputs=outputs,
        steps=apart.steps,
        trainings=apart.trainings,
        weighed=weighed(runs, outputs, tracker),
        answers=advised(answered, outputs, tracker.artifact),
    )


def _show(console: Console, report: Report) -> None:
    terminal.show(console, report.runs, report.breakeven, report.sentences, report.warnings, report.answers)
    if report.regimes:
        show_regimes(console, report.regimes)
    for line in [*left_in_words(report.left), *_apart_in_words(report)]:
        console.print(line, markup=False)


def _apart_in_words(report: Report) -> Iterator[str]:
    yield from ladder_in_words(report.steps) if len(report.steps) else ()
    yield from trained_in_words(report.trainings, report.outputs) if len(report.trainings) else ()


def _no_runs(conf: AnalyzeConf) -> str:
    """What a fresh clone is told that asks for a forecast: nothing is wrong, and what the forecast rests on."""
    came = "cells that came with this program" if conf.predict == MODEL or conf.device else ""
    rests = "what was imported" if conf.imports else came
    return "note: no runs here yet" + (f"; predicted from {rests}" if rests else "")


def _without_runs(conf: AnalyzeConf, why: str, console: Console, apart: Apart | None = None) -> int:
    """What imports, other treatments or trainings can tell, in a report of its own; or why there are no runs."""
    apart = apart or Apart()
    if not apart.any:
        console.print(why, soft_wrap=True, markup=False)
        if not conf.imports and not conf.predict:
            return 1
    runs = tidy([], conf.margin)
    found = _regimes(conf, runs)
    show_regimes(console, found)
    if not found.imported.sources and not len(found.predictions) and not found.models and not apart.any:
        return 1
    folder = report_folder(Path(conf.report))
    own = f"experiment {conf.experiment or conf.tracking.experiment}"
    others = own if apart.any else "forecasts alone"
    source = f"{', '.join(found.imported.sources)}, published" if found.imported.sources else others
    report = Report(
        runs,
        breakeven_table(runs),
        [*published(found)],
        Provenance(0),
        [],
        conf.margin,
        source,
        found,
        outputs=Path(conf.outputs),
        steps=apart.steps,
        trainings=apart.trainings,
    )
    for line in _apart_in_words(report):
        console.print(line, soft_wrap=True, markup=False)
    tables = write_predictions(found, folder)
    paths = [write_report(report, folder, tables), *tables]
    for path in paths:
        console.print(f"{path.stem}: {path.resolve()}", soft_wrap=True, markup=False)
    return 0


def _regimes(conf: AnalyzeConf, runs: pd.DataFrame, tracker: Tracker | None = None) -> Regimes:
    aliases, outputs = scheme_aliases(), Path(conf.outputs)
    asked = run_configs(conf.workload) if conf.predict == MODEL else []
    tables = partial(layer_tables, compared(model_level(runs)), outputs, tracker)
    with quiet_libraries():
        imported = read_imports(conf.imports, aliases)
        found = regimes(runs, imported, conf.margin, tables, kept_folder(outputs))
        return predict(found, runs, Question(conf.predict, conf.device, asked, aliases))


def _only_sweep(frame: pd.DataFrame, conf: AnalyzeConf, *, also: bool = False) -> pd.DataFrame:
    """The rows of the sweep that was asked for; `also`: it has runs of another kind, and may have none here."""
    chosen = asked_sweep(frame, conf)
    if chosen.empty and not also:
        newest = frame.sort_values("started_at", ascending=False)["sweep"].drop_duplicates().head(5)
        those = f"the newest sweeps that have are {', '.join(newest)}"
        raise ConfigError(f"sweep={conf.sweep}: no finished runs that compare speeds; {those}")
    return chosen
