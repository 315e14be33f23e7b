"""A real MLflow database, and what makes experiments in it and analyses them."""

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient

from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.config.schema.root import AnalyzeConf, TrackingConf
from src.report.analysis import analyze
from src.report.runs.filters import Filters
from src.report.runs.links import RunLinks
from src.report.runs.tables import verdicts_html
from tests.analysis.synthetic import Made, publish


@dataclass
class Store:
    """A database, and what makes experiments in it."""

    outputs: Path
    client: MlflowClient
    names: "count[int]"

    @property
    def database(self) -> Path:
        return self.outputs / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    def experiment(self, runs: list[Made] | None = None) -> tuple[str, str]:
        """Name and id of a new experiment, with these runs."""
        name = f"experiment-{next(self.names)}"
        experiment_id = self.client.create_experiment(name, str(self.outputs / "artifacts" / name))
        publish(self.database, experiment_id, runs or [])
        return name, experiment_id

    def conf(self, experiment: str, **changed: object) -> AnalyzeConf:
        tracking = TrackingConf(name="sqlite", uri=self.uri, experiment=experiment)
        report = str(self.outputs / "reports" / experiment)
        given = {"tracking": tracking, "outputs": str(self.outputs), "report": report} | changed
        return AnalyzeConf(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def store(tmp_path_factory, empty_database: Path) -> Store:
    outputs = tmp_path_factory.mktemp("outputs")
    shutil.copy(empty_database, outputs / "mlflow.db")
    return Store(outputs, MlflowClient(f"sqlite:///{outputs}/mlflow.db"), count())


def run_analysis(conf: AnalyzeConf) -> tuple[int, str]:
    """Exit status and what was printed at 100 columns."""
    out = io.StringIO()
    return analyze(conf, Console(file=out, width=100, highlight=False)), out.getvalue()


def verdicts_table(frame: pd.DataFrame) -> str:
    """The report's table of these rows."""
    return verdicts_html(frame, Filters(frame), RunLinks(Path("outputs"), Path("outputs/report")))


@pytest.fixture
def analysing() -> Callable[[AnalyzeConf], tuple[int, str]]:
    return run_analysis


@pytest.fixture
def framed(store: Store) -> Callable[[list[Made]], pd.DataFrame]:
    """framed(runs): the standing rows of some runs, through MLflow."""

    def frame(runs: list[Made]) -> pd.DataFrame:
        name, _ = store.experiment(runs)
        return standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02))

    return frame
