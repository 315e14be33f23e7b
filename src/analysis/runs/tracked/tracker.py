"""The one place of the analysis that talks to MLflow: runs out of it, the analysis into it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.analysis.runs.tracked.blocks import Blocks
from src.analysis.runs.tracked.database import opened
from src.analysis.runs.tracked.kept import Kept, refreshed
from src.analysis.runs.tracked.local_store import (
    Experiment,
    OtherTablesError,
    Tagged,
    experiment_of,
    files_of,
    tagged,
)
from src.analysis.runs.tracked.opening import client_of, database_of, unreachable
from src.analysis.runs.tracked.source import Runs, attempts, in_order
from src.config.errors import ConfigError
from src.config.paths import command
from src.config.schema.root import TrackingConf
from src.config.tracking_uri import without_password
from src.records.mlflow.connection import probe
from src.records.mlflow.summary import MAX_NOTE, NOTE
from src.records.mlflow.view import ui_command

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000  # runs per request


class Tracker:
    """One experiment of an MLflow tracking store.

    Args:
        conf: where the store is.
        experiment: name of the experiment; None: ``conf.experiment``.

    Raises:
        ConfigError: no store there, it doesn't answer, or it has no such experiment.
    """

    def __init__(self, conf: TrackingConf, experiment: str | None = None) -> None:
        self.uri, self.experiment = without_password(conf.uri), experiment or conf.experiment
        self.conf, self._database = conf, database_of(conf)
        self._calibrated = True  # or not yet known
        here = experiment_of(self._database, self.experiment) if self._database else None
        self.experiment_id, self._created_ms = here or self._find_experiment()

    @cached_property
    def _client(self) -> "MlflowClient":
        """MLflow's; a local database is read without it, so it is imported when something is written."""
        return client_of(self.conf)

    def import_client(self) -> None:
        """Make MLflow's client ready now, which takes seconds; what cannot be opened is told when it is used."""
        with suppress(ConfigError):
            _ = self._client

    def attempts(
        self, folder: Path, same: Callable[[str], bool] = lambda _: False
    ) -> tuple[pd.DataFrame, list[str]] | None:
        """All published runs as `source.attempts`, and what is to be said of how they were read.

        A database is read directly, and what was read is kept; a server is asked for everything each time.

        Args:
            folder: where rows are kept.
            same: asked, where that can be told, whether what tells these runs from others is known.

        Returns:
            The runs; None where they are the same.
        """
        if self._database is None:
            return attempts(Runs(self.runs())), []
        about = {"uri": self.uri, "id": self.experiment_id, "made": self._created_ms}
        kept, blocks = Kept(folder, about), Blocks(self._database, Kept(folder, about | {"what": "blocks"}))
        try:
            with ThreadPoolExecutor(1) as beside:
                reading = beside.submit(kept.read)  # while SQLite reads: hardly any of either is Python's
                changed = blocks.changed(files := kept.files)
                with opened(self._database, self.experiment_id) as database:
                    before = reading.result()
                    marks = database.marks(before, changed)
                    self._calibrated = database.calibrated
                    if same(database.told_apart(marks)):
                        return None
                    rows, new = refreshed(before, marks, database.attempts)
        except OtherTablesError:
            return attempts(Runs(self.runs())), []
        if len(new):
            kept.write(rows, new, anew=before is None)
        if len({*kept.files} - {*files}) == (
            len(new) > 0
        ):  # else another analysis wrote, or this one could not
            blocks.keep(kept.files)
        return in_order(rows), [kept.trouble] if kept.trouble else []

    def runs(self) -> "list[Run]":
        """All published runs, one MLflow run per attempt, newest first."""
        return list(self._search("tags.kind = 'run' and tags.published = '1'"))

    def calibrations(self) -> list[Tagged]:
        """All published calibrations, newest first."""
        if not self._calibrated:
            return []
        if self._database is not None:
            try:
                return tagged(self._database, self.experiment_id, "calibration")
            except OtherTablesError:
                pass
        found = self._search("tags.kind = 'calibration' and tags.published = '1'")
        return [Tagged(run.info.run_id, int(run.info.start_time), run.data.tags) for run in found]

    def artifact(self, run_id: str, name: str, folder: Path) -> Path | None:
        """One artifact of a run, where it is on this disk or downloaded; None where the run has none of that name."""
        here = files_of(self._database, run_id) if self._database else None
        if here is not None:
            return here / name if (here / name).is_file() else None
        try:
            return Path(self._client.download_artifacts(run_id, name, str(folder)))
        except Exception:  # each artifact store has exceptions of its own
            return None

    def publish(self, name: str, tags: dict[str, str], metrics: dict[str, float], files: list[Path]) -> str:
        """Log an analysis: a run with tag ``kind=analysis``, headline metrics and files. Returns its id.

        Raises:
            TrackingError: a local store cannot be written, which MLflow tells at length. Else MLflow's own.
        """
        from mlflow.entities import Metric

        if self._database is not None:
            probe(self.uri, busy=True)  # MLflow waits longer
        run = self._client.create_run(self.experiment_id, run_name=name, tags={"kind": "analysis"} | tags)
        run_id, now = run.info.run_id, run.info.start_time
        self._client.log_batch(run_id, [Metric(key, value, now, 0) for key, value in metrics.items()])
        for path in files:
            self._client.log_artifact(run_id, str(path))
        self._client.set_terminated(run_id)
        return str(run_id)

    def tell_sweep(self, sweep: str, answer: str, report: Path) -> None:
        """Let a sweep's own run carry a report, and its description begin with the answer and a link to it."""
        for run in self._search(f"tags.kind = 'sweep' and tags.sweep = '{sweep}'"):
            run_id = run.info.run_id
            self._client.log_artifact(run_id, str(report))
            link = f"#/experiments/{self.experiment_id}/runs/{run_id}/artifacts/{report.name}"
            rest = run.data.tags.get(NOTE, "").partition("\n\n")[2]  # what came first was an answer too
            note = f"{answer} [The report]({link})\n\n{rest}"
            whole = note if len(note) <= MAX_NOTE else note[:MAX_NOTE].rpartition("\n")[0]
            self._client.set_tag(run_id, NOTE, whole)

    @property
    def view_hint(self) -> str:
        """What shows the experiment in MLflow's UI: a command for a local store, an address for a server."""
        if self.uri.startswith(("http://", "https://")):
            return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs"
        return ui_command(self.uri)

    def _search(self, query: str) -> "Iterator[Run]":
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, max_results=_PAGE, page_token=token, order_by=["start_time DESC"]
            )
            yield from page
            token = page.token
            if not token:
                return

    def _find_experiment(self) -> Experiment:
        try:
            found = self._client.get_experiment_by_name(self.experiment)
            if found is not None:
                return Experiment(str(found.experiment_id), int(found.creation_time or 0))
            known = [e.name for e in self._client.search_experiments() if e.name != "Default"]
        except ConfigError:  # the client's own, which says the same
            raise
        except Exception as error:
            raise unreachable(self.uri, error) from error
        has = f"it has {', '.join(sorted(known))}" if known else f"it has none yet; {command('run')} makes it"
        raise ConfigError(f"experiment={self.experiment}: not in {self.uri}; {has}")
