"""Publishing records to MLflow: a view of what lies on disk, safe to repeat at any time.

`open_tracker(conf)` opens it; `Tracker.publish(run_folder, parent)` publishes one run. MLflow's own
`create_run` is retried by its client and can double a run, so a run is known by its tags ``run_key``, ``attempt`` and
``sweep``, given in the creation; of several a published one stands for it, then the smallest (start time, run id).
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.schema.root import TrackingConf
from src.records.locks import locked
from src.records.mlflow import content
from src.records.mlflow.connection import Connection, TrackingError, UnpublishableError, connect, explained
from src.records.mlflow.options import OPTIONS_TAG, options_text
from src.records.mlflow.points import points as points_of
from src.records.mlflow.summary import NOTE, headline, sweep_note, sweep_status
from src.records.mlflow.tagged import TaggedRuns
from src.records.mlflow.view import publish_view, sweep_link
from src.records.pictures import SHEET_NAME, write_sheet
from src.records.record import RECORD_NAME, Record, RecordError, read_record
from src.records.store import (
    MANIFEST_NAME,
    SweepManifest,
    mark_published,
    note_parent,
    noted_parent,
    published_run,
    read_manifest,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Tracker", "TrackingError", "UnpublishableError", "open_tracker"]

_LOCK_S = 60.0  # a run is published in about a second; another process may be at it


def open_tracker(conf: TrackingConf) -> "Tracker":
    """Open the tracker that the configuration names.

    Raises:
        TrackingError: it cannot be used, within seconds; one line, with what to do.
    """
    return Tracker(connect(conf))


class Tracker:
    """Publishes run folders into one experiment with an explicit client and run ids.

    Every method raises TrackingError for any trouble with the tracker; what is on disk is kept.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client, self.runs = connection.client, TaggedRuns(connection)

    def open_sweep(self, manifest: SweepManifest, folder: Path) -> str:
        """Get or create the sweep's parent run, and note it in the sweep's folder; returns its run id.

        Safe against other processes that do the same; the folder is made where a sweep has none.
        """
        what = f"sweep {manifest.sweep} cannot be opened"
        with explained(self.connection.uri, what):
            folder.mkdir(parents=True, exist_ok=True)
        with self._alone(folder, what):
            identity = {"kind": "sweep", "sweep": manifest.sweep}
            more = {"command": shlex.join(manifest.command)[:2000]}
            run = self.runs.get_or_create(identity, more, manifest.sweep, manifest.started_at)
            publish_view(self.connection, manifest.sweep)
            note_parent(folder, self.connection.destination, run.info.run_id)
        return str(run.info.run_id)

    def parent_of(self, folder: Path) -> str:
        """The run id of a sweep's parent run as its folder notes it; opened here when it notes none.

        Raises:
            UnpublishableError: there is none, and the folder's ``sweep.json`` cannot be read.
        """
        noted = noted_parent(folder, self.connection.destination)
        return noted or self.open_sweep(_manifest(folder), folder)

    def publish(self, folder: Path, parent_run_id: str) -> str:
        """Publish one run's folder below its sweep's parent run; returns its run id.

        Raises:
            UnpublishableError: a file of this folder cannot be read; the message names it.
        """
        record = _read(folder)
        if (there := self._published(folder, record)) is not None:
            return there
        self.connection.probe()
        with self._alone(folder, f"{folder} cannot be published"):
            return self._publish(record, folder, parent_run_id)

    def is_published(self, folder: Path, record: Record) -> bool:
        """Whether this tracker holds a run's folder complete and in its present version; asks the disk only."""
        return self._published(folder, record) is not None

    def is_closed(self, folder: Path) -> bool:
        """Whether `close_sweep` was done for this sweep's folder; asks the disk only."""
        return published_run(folder, self.connection.destination) is not None

    def close_sweep(self, parent_run_id: str, folder: Path) -> None:
        """Finish a sweep's parent run: its headline numbers, its table of verdicts, its status.

        Args:
            parent_run_id: of `open_sweep`.
            folder: the sweep's, with its ``sweep.json``.
        """
        manifest = _manifest(folder)
        self.connection.probe()
        outputs = folder.parent.parent
        with explained(self.connection.uri, f"sweep {manifest.sweep} cannot be finished"):
            children = self._children(manifest, outputs, parent_run_id)
            records = list(children.values())
            known = self.client.get_run(parent_run_id).data.metrics
            last = max((record.finished_at for record in records), default="")
            at_ms = content.milliseconds(last or manifest.started_at)
            new = dict.fromkeys(known, 0.0) | headline(manifest, records)
            new = {name: value for name, value in new.items() if known.get(name) != value}
            note = sweep_note(manifest, children, self.connection.experiment_id)
            points = [(name, value, 0) for name, value in new.items()]
            now_ms = round(time.time() * 1000)  # of two at one moment MLflow shows the larger
            publish_view(self.connection, manifest.sweep, records)
            self.runs.log(parent_run_id, points, {}, {NOTE: note}, now_ms)
            if write_sheet(manifest.folders(outputs), folder / SHEET_NAME):
                self.client.log_artifact(parent_run_id, str(folder / SHEET_NAME))
            self.client.set_terminated(parent_run_id, sweep_status(manifest, records), at_ms)
        mark_published(folder, self.connection.destination, parent_run_id, version=last)

    def link(self, sweep: str) -> str:
        """The lines to print: where the sweep's speedups and latencies are seen at once."""
        return sweep_link(self.connection, sweep)

    def _published(self, folder: Path, record: Record) -> str | None:
        marked = published_run(folder, self.connection.destination)
        return marked[0] if marked is not None and marked[1] == record.finished_at else None

    @contextmanager
    def _alone(self, folder: Path, what: str) -> Iterator[None]:
        """One process at a time at a folder; trouble comes as a TrackingError that says `what`."""
        with explained(self.connection.uri, what), locked(folder / ".publishing.lock", _LOCK_S):
            yield

    def _publish(self, record: Record, folder: Path, parent_run_id: str) -> str:
        if (there := self._published(folder, record)) is not None:
            return there
        identity = {"kind": "run", "run_key": record.run_key, "attempt": str(record.attempt)}
        identity["sweep"] = record.sweep  # others who publish here may have measured the same
        # one given up as lost may have come home after all; the record on disk is what counts
        self.runs.delete_others(identity, "recorded_at", record.finished_at)
        identity["recorded_at"] = record.finished_at
        more = {"sweeps": f" {record.sweep} ", "mlflow.parentRunId": parent_run_id}
        run = self.runs.get_or_create(identity, more, content.label(record), record.started_at)
        if run.data.tags.get("published") != "1":
            self._fill(run, record, folder)
            run = self.runs.only(identity)
        run_id = str(run.info.run_id)
        mark_published(folder, self.connection.destination, run_id, record.finished_at)
        return run_id

    def _fill(self, run: "Run", record: Record, folder: Path) -> None:
        """Everything of a run; the tag ``published`` comes last."""
        run_id = run.info.run_id
        try:
            points, settings = points_of(record, folder), content.settings(record, folder)
        except ValueError as error:
            raise UnpublishableError(f"{error}; move it away to publish the rest") from error
        finished = content.milliseconds(record.finished_at)
        params = content.params(record, settings)
        new = {name: text for name, text in params.items() if name not in run.data.params}
        tags = content.tags(record) | {OPTIONS_TAG: options_text(settings)}
        self.runs.log(run_id, points, new, tags, finished)
        for path in content.artifacts(folder):
            below = path.parent.relative_to(folder).as_posix()
            self.client.log_artifact(run_id, str(path), None if below == "." else below)
        self.client.set_terminated(run_id, content.status(record), finished)
        self.client.set_tag(run_id, "published", "1")

    def _children(self, manifest: SweepManifest, outputs: Path, parent_run_id: str) -> dict[str, Record]:
        """A sweep's runs by MLflow's run id, those among them that an earlier sweep measured."""
        children: dict[str, Record] = {}
        for folder in manifest.folders(outputs):
            if not (folder / RECORD_NAME).exists():
                continue
            try:
                record, run_id = _read(folder), self.publish(folder, parent_run_id)
            except UnpublishableError:  # told when it was to be published itself
                continue
            if record.sweep != manifest.sweep:
                with self._alone(folder, f"{folder} cannot be listed"):  # sweeps that end together
                    self.runs.mention(run_id, manifest.sweep)
            children[run_id] = record
        return children


def _manifest(folder: Path) -> SweepManifest:
    try:
        return read_manifest(folder / MANIFEST_NAME)
    except RecordError as error:
        raise UnpublishableError(str(error)) from error


def _read(folder: Path) -> Record:
    try:
        return read_record(folder / RECORD_NAME)
    except RecordError as error:
        raise UnpublishableError(str(error)) from error
