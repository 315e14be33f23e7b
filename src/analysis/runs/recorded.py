"""Runs from the records on this disk, as the tracker would give them: for records that were kept without it."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.analysis.runs.facts import VERSIONS
from src.analysis.runs.frame import standing, tidy
from src.records.mlflow import content
from src.records.record import Record, RecordError
from src.records.store import iter_records

if TYPE_CHECKING:
    from mlflow.entities import Run


def recorded(outputs: Path, margin: float) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The standing runs of a folder of records, and the versions that made them: name -> values, commonest first."""
    every = [*iter_records(outputs)]
    found = [(record, folder) for folder, record in every if isinstance(record, Record)]
    runs, left_out = as_runs(found)
    for line in [*(str(error) for _, error in every if isinstance(error, RecordError)), *left_out]:
        print(line, file=sys.stderr)
    environments = [record.environment for record, _ in found]
    versions = {name: Counter(str(e[name]) for e in environments if name in e) for name in VERSIONS}
    met = {name: [value for value, _ in values.most_common()] for name, values in versions.items() if values}
    return standing(tidy(runs, margin)), met


def as_runs(found: Iterable[tuple[Record, Path]], *, side: str = "") -> tuple["list[Run]", list[str]]:
    """`as_run` of each; of those that cannot be read a line each, with the reason."""
    runs, left_out = [], []
    for record, folder in found:
        try:
            runs.append(as_run(record, folder, side=side))
        except ValueError as error:
            left_out.append(f"{folder}: left out ({error})")
    return runs, left_out


def as_run(record: Record, folder: Path, *, side: str = "") -> "Run":
    """A record as MLflow gives it; with a side its key begins with that, so that both sides' attempts stay apart.

    Raises:
        ValueError: its ``config.yaml`` or its times cannot be read.
    """
    from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

    settings = content.settings(record, folder)
    tags = (
        _asked(settings)
        | content.tags(record)
        | {
            "run_key": f"{side}/{record.run_key}" if side else record.run_key,
            "attempt": str(record.attempt),
            "sweep": record.sweep,
        }
    )
    info = RunInfo(
        run_id=f"{record.run_key}/{record.attempt}",
        experiment_id="",
        user_id="",
        status=content.status(record),
        start_time=content.milliseconds(record.started_at),
        end_time=content.milliseconds(record.finished_at),
        lifecycle_stage="active",
    )
    data = RunData(
        [Metric(name, value, 0, 0) for name, value in record.metrics.items()],
        [Param(name, text) for name, text in settings.items()],
        [RunTag(name, text) for name, text in tags.items()],
    )
    return Run(info, data)


def _asked(settings: dict[str, str]) -> dict[str, str]:
    """How a run was to be measured, for records that do not say how it was."""
    asked = {name: settings.get(f"measure.{name}", "auto") for name in ("cache", "pairing")}
    return {name: text for name, text in asked.items() if text != "auto"}
