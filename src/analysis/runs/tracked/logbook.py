"""Logging an analysis to MLflow, by a process beside that imports MLflow while this one reads and draws.

Importing it takes longer than reading some hundred new runs does.
"""

import gc
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from src.analysis.runs.tracked.tracker import Tracker
from src.config.lines import first_line
from src.config.schema.root import TrackingConf
from src.records.mlflow.connection import TrackingError


@dataclass(frozen=True)
class Entry:
    """What is logged of one analysis."""

    name: str
    tags: dict[str, str]
    metrics: dict[str, float]
    files: list[Path]  # the report first
    sweep: str = ""  # whose own run begins with the answer, and carries the report
    answer: str = ""


class Logbook:
    """Logs an analysis where its runs came from; a context, which ends the process beside.

    Args:
        tracker: where to.
        beside: whether in another process; by default where MLflow is not imported here already.
    """

    def __init__(self, tracker: Tracker, beside: bool | None = None) -> None:
        self._tracker = tracker
        self._beside = "mlflow" not in sys.modules if beside is None else beside

    def __enter__(self) -> "Logbook":
        if self._beside:
            spawning = get_context("spawn")
            self._there, theirs = spawning.Pipe()
            conf, experiment = self._tracker.conf, self._tracker.experiment
            self._child = spawning.Process(target=_serve, args=(theirs, conf, experiment), daemon=True)
            self._child.start()
            theirs.close()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._beside:
            self._child.kill()
            self._child.join()

    def start(self, entry: Entry) -> None:
        """Have it logged, by the process beside from now on."""
        self._entry = entry
        if self._beside:
            with suppress(OSError):  # it ended, as `finish` says
                self._there.send(entry)

    def finish(self) -> str:
        """Wait until it is logged; returns why that failed, empty where it did not."""
        if self._beside:
            try:
                return str(self._there.recv())
            except (EOFError, OSError):
                return "the process that logs it ended"
        return _logged(self._tracker, self._entry)


def _serve(orders: Connection, conf: TrackingConf, experiment: str) -> None:
    """Import MLflow, then log what comes."""
    gc.disable()  # a fifth of what importing takes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the analysis ends this process
    tracker = Tracker(conf, experiment)
    tracker.import_client()
    entry: Entry = orders.recv()
    orders.send(_logged(tracker, entry))


def _logged(tracker: Tracker, entry: Entry) -> str:
    try:
        tracker.publish(entry.name, entry.tags, entry.metrics, entry.files)
        if entry.sweep:
            tracker.tell_sweep(entry.sweep, entry.answer, entry.files[0])
    except Exception as error:  # each artifact store has exceptions of its own
        return first_line(error.__cause__ if isinstance(error, TrackingError) and error.__cause__ else error)
    return ""
