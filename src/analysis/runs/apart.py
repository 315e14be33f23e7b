"""Runs that do not compare quantizing with a baseline: an analysis tells of them apart from the others."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from src.analysis.runs.frame import CELL, CELL_OF_ALL, steps_of, told_alone, trainings_of
from src.config.errors import ConfigError
from src.config.schema.root import AnalyzeConf
from src.records.record import RecordError
from src.records.store import MANIFEST_NAME, read_manifest, sweep_folder


@dataclass(frozen=True)
class Apart:
    """Steps of ladders and runs with other treatments; trainings from scratch."""

    steps: pd.DataFrame = field(default_factory=pd.DataFrame)
    trainings: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def of(cls, attempts: pd.DataFrame, conf: AnalyzeConf) -> "Apart":
        """Those among all attempts, of the sweep that was asked for."""
        steps = steps_of(attempts, conf.margin, partial(asked_sweep, conf=conf, cell=CELL_OF_ALL))
        return cls(steps, asked_sweep(trainings_of(attempts, conf.margin), conf))

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(len(self.steps) or len(self.trainings))


def asked_sweep(frame: pd.DataFrame, conf: AnalyzeConf, cell: list[str] = CELL) -> pd.DataFrame:
    """The rows of the sweep that was asked for; all, where none was.

    What stands is decided within the sweep: a run that was measured again since is shown as this sweep has it.
    """
    if conf.sweep is None or frame.empty:
        return frame
    return of_sweep(frame, conf.sweep, sweep_keys(conf.sweep, Path(conf.outputs)), cell)


def sweep_keys(sweep: str, outputs: Path) -> set[str]:
    """Run keys of ``outputs/sweeps/<sweep>/sweep.json``, those it skipped as measured before included; else none."""
    path = sweep_folder(outputs, sweep) / MANIFEST_NAME
    if not path.is_file():
        return set()
    try:
        return {str(run["run_key"]) for run in read_manifest(path).runs}
    except RecordError as error:
        raise ConfigError(str(error)) from error


def of_sweep(frame: pd.DataFrame, sweep: str, keys: set[str], cell: list[str] = CELL) -> pd.DataFrame:
    """The rows of a sweep: those it measured, and those it skipped as measured before."""
    listed = frame["sweeps"].str.split().map(lambda names: sweep in names)
    return told_alone(frame, listed | (frame["sweep"] == sweep) | frame["run_key"].isin(keys), cell)
