"""Publishing while runs go on: a tracker that is down costs a message, never a run or a record.

Whoever waits for a sweep publishes with `SweepPublisher`; with ``tracking.publish=worker`` a cluster's job
publishes its own record with `publish_own`, and whoever waits takes only what such a job left behind.
"""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from src.config.paths import command, database_path, outputs_argument, override
from src.config.schema.root import RootConf, TrackingConf
from src.config.tracking_uri import without_password
from src.records.mlflow.connection import within
from src.records.mlflow.tracking import Tracker, TrackingError, open_tracker
from src.records.pictures import SHEET_NAME, broken, write_sheet
from src.records.store import SweepManifest

_OWN_S = (
    90.0  # a run among 64 others took up to 40 s on a small server; longer, and a GPU waits for a tracker
)


class SweepPublisher:
    """Publishes each record as it comes; after the first failure it leaves the rest to `src.collect`."""

    def __init__(self, conf: TrackingConf, manifest: SweepManifest, folder: Path) -> None:
        self.conf, self.manifest, self.folder = conf, manifest, folder
        self.trouble = ""
        self._tracker: Tracker | None = None
        self._parent = ""
        self._kept = 0

    def open(self) -> None:
        """Open the tracker and the sweep's parent run, and note that run in the sweep's folder."""
        if not self.conf.enabled:
            return
        try:
            self._tracker = open_tracker(self.conf)
            self._parent = self._tracker.open_sweep(self.manifest, self.folder)
        except TrackingError as error:
            self._give_up(error)

    def publish(self, folder: Path) -> None:
        """Publish one run's folder."""
        if self._tracker is None:
            self._kept += 1
            return
        try:
            self._tracker.publish(folder, self._parent)
        except TrackingError as error:
            self._kept += 1
            self._give_up(error)

    def close(self, *, over: bool = True) -> list[str]:
        """Finish the parent run if the sweep is over; returns what the user should know, line by line."""
        lines = self._pictures() if over else []
        if self._tracker is not None and over:
            try:
                self._tracker.close_sweep(self._parent, self.folder)
                if any(map(_is_analysed, self.manifest.folders(self.folder.parents[1]))):
                    lines.append(f"next, what to use: {command('analyze', *self._which())}")
                lines += self._tracker.link(self.manifest.sweep).splitlines()
            except TrackingError as error:
                self._give_up(error)
        if self.trouble:
            lines.append(f"warning: {self.trouble}")
        if self._kept:
            publish = command("collect", *outputs_argument(self.folder.parents[1]))
            kept = "1 record is" if self._kept == 1 else f"{self._kept} records are"
            lines.append(f"{kept} kept on disk; to publish: {publish}")
        return lines

    def _pictures(self) -> list[str]:
        """The sheet of the pictures that the sweep's runs left, where they left any."""
        path, folders = self.folder / SHEET_NAME, [*self.manifest.folders(self.folder.parents[1])]
        try:
            there = write_sheet(folders, path)
        except OSError as error:
            return [f"warning: {path} cannot be written: {error.strerror or error}"]
        lines = [f"pictures: {path}"] if there else []
        if unread := broken(folders):
            more = f", the first of {len(unread)}" if len(unread) > 1 else ""
            lines.append(
                f"warning: {unread[0]} cannot be read{more}: not among the pictures; rerun=true draws again"
            )
        return lines

    def _which(self) -> list[str]:
        """What the analysis needs to be told to find this sweep."""
        outputs, usual = self.folder.parents[1], TrackingConf()
        words = [f"sweep={self.manifest.sweep}", *outputs_argument(outputs)]
        database = database_path(self.conf.uri)
        if database is None or database.resolve() != (outputs / "mlflow.db").resolve():
            words += [f"tracking={self.conf.name}", override("tracking.uri", without_password(self.conf.uri))]
        if self.conf.experiment != usual.experiment:
            words.append(override("experiment", self.conf.experiment))
        return words

    def _give_up(self, error: TrackingError) -> None:
        self.trouble, self._tracker = str(error), None


def publish_own(cfg: RootConf, folder: Path, sweep_folder: Path) -> None:
    """Publish a run from the job that made it, under the parent run that the sweep's folder notes.

    Raises nothing: trouble is a line in the run's ``run.log``, the record is left to `src.collect`. A tracker
    that is down is noticed within seconds, one that is too slow is given up after 90 s.

    Args:
        folder: the run's, with its ``record.json``.
        sweep_folder: of the sweep that submitted it.
    """
    try:
        if cfg.tracking.enabled:
            within(_OWN_S, lambda: _publish(cfg.tracking, folder, sweep_folder))
    except Exception as error:
        trouble = str(error) or type(error).__name__
        with contextlib.suppress(OSError), (folder / "run.log").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S} warning: not published from here: {trouble}\n")


def left_to_its_job(folder: Path, *, over: bool) -> bool:
    """Whether others should leave a record alone, since its own job publishes it.

    Args:
        folder: the run's, with its ``config.yaml``.
        over: whether the job is known to have ended, or there is none.
    """
    if over:
        return False
    tracking = _config(folder, "tracking")
    return bool(tracking.get("enabled") and tracking.get("publish") == "worker")


def _is_analysed(folder: Path) -> bool:
    """Whether the analysis shows a run: it compares speeds or trains; one that only saves and loads does neither."""
    task = _config(folder, "task")
    return bool(task.get("compares", True) or task.get("trains"))


def _config(folder: Path, key: str) -> dict[str, Any]:
    """What a run's ``config.yaml`` holds under a key; nothing where it cannot be read."""
    try:
        return dict(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return {}


def _publish(conf: TrackingConf, folder: Path, sweep_folder: Path) -> None:
    tracker = open_tracker(conf)
    tracker.publish(folder, tracker.parent_of(sweep_folder))
