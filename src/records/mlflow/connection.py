"""Opening a tracker: MLflow's settings, quick probes for what is wrong with it, the experiment."""

import os
import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from shlex import quote
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from src.config.lines import clipped
from src.config.paths import command, database_path, database_uri
from src.config.schema.root import TrackingConf
from src.config.tracking_uri import without_password
from src.records.locks import locked

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# MLflow would retry a dead server for 4 minutes per call and report its use to its vendor.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a proxy may ask for an hour
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_PROBE_S = 5.0  # a tracker that says nothing for so long is taken to be down
_OPEN_S = 90.0  # another process may be creating the schema: 3 to 7 s each
_REMEDIES = {  # what a message holds: what to do
    "error code 401": "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "Invalid Host header": "start the server with --allowed-hosts and the name in tracking.uri, port included",
    "Could not determine home directory": "give HOME, a folder that you may write",  # a user that has no name here
    "readonly database": "make the file and its folder writable, or give tracking.uri=sqlite:///PATH of another",
    "CERTIFICATE_VERIFY_FAILED": "give MLFLOW_TRACKING_SERVER_CERT_PATH, the file with the server's authority",
}
EXPERIMENT_NOTE = (
    "One parent run per sweep, a child per measured configuration. `speedup/ratio` is baseline / treated, "
    "above 1 is faster; `latency/*` is in ms per call. Filter `tags.kind = 'run'` for all measurements flat, "
    "or open a sweep's link: its command prints it."
)


class TrackingError(RuntimeError):
    """The tracker cannot be used; one line saying what is wrong and that the records are kept."""


class UnpublishableError(TrackingError):
    """One run's own files cannot be published; others can."""


def _kept() -> str:
    return f"what was measured is kept on disk, `{command('collect')}` publishes it later"


@contextmanager
def explained(uri: str, what: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a TrackingError."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        text = text.rpartition("(Caused by ")[2]  # what urllib3 buries in a page of addresses
        text = without_password(re.sub(r"//[^/@\s]+@", "//", text))  # names too
        text = clipped(text)
        remedy = next((f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in text), "")
        raise TrackingError(f"MLflow at {uri}: {what}: {text}{remedy}; {_kept()}") from error


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns; a TimeoutError after `seconds`, and the call is left behind in its thread.

    For what no time limit of its own covers: a name that is looked up, an answer that comes in drops.
    """
    future: Future[T] = Future()

    def answer() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=answer, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():
            raise
        raise TimeoutError(f"timed out after {seconds:g} s") from None


@dataclass
class Connection:
    """An opened tracker: explicit client, explicit experiment."""

    client: "MlflowClient"
    uri: str  # without a password
    experiment_id: str
    experiment_created_ms: int

    @property
    def destination(self) -> dict[str, Any]:
        """What tells this experiment from any other, one of a deleted and recreated database too."""
        return {
            "uri": self.uri,
            "experiment_id": self.experiment_id,
            "created_ms": self.experiment_created_ms,
        }

    def probe(self) -> None:
        """Raise a TrackingError within seconds if the tracker is down, locked or corrupt."""
        probe(self.uri)


def connect(conf: TrackingConf) -> Connection:
    """Open the tracker and get or create the experiment; safe against other processes doing the same.

    Raises:
        TrackingError: tracking is off, or the tracker is unreachable, locked, corrupt, or its experiment deleted.
    """
    if not conf.enabled:
        raise TrackingError(
            f"tracking={conf.name} publishes nothing; choose tracking=sqlite or tracking=server"
        )
    database = database_path(conf.uri)
    if database is None:
        shown = without_password(conf.uri)
        probe(shown)
        return _open(conf, conf.uri, shown, None)
    database = database.resolve()
    uri = database_uri(database)
    artifacts = Path(conf.artifacts) if conf.artifacts else database.parent / "artifacts"
    with explained(uri, "cannot be opened"):
        _import()  # takes seconds: not while others wait for the lock
        database.parent.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{database}.lock"), _OPEN_S):  # MLflow's creation of its tables races
            probe(uri)
            return _open(conf, uri, uri, artifacts.resolve().as_uri())


def _import() -> "type[MlflowClient]":
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    mend_folder()
    return MlflowClient


def mend_folder() -> None:
    """MLflow tells alembic its own folder as the value of an INI file, where a % begins an interpolation."""
    import mlflow
    from alembic.config import Config

    if "%" not in str(mlflow.__file__) or hasattr(Config.set_main_option, "__wrapped__"):
        return
    told = Config.set_main_option

    @wraps(told)
    def told_literally(self: Config, name: str, value: str) -> None:
        told(self, name, value.replace("%", "%%") if name == "script_location" else value)

    Config.set_main_option = told_literally  # type: ignore[method-assign]


def _open(conf: TrackingConf, uri: str, shown: str, artifacts: str | None) -> Connection:
    with explained(shown, "cannot be opened"):
        client = _import()(tracking_uri=uri)
        experiment = _experiment(client, conf.experiment, artifacts)
    if experiment.lifecycle_stage != "active":
        restore = f"mlflow experiments restore -x {experiment.experiment_id}"
        raise TrackingError(
            f"MLflow at {shown}: experiment {conf.experiment!r} is deleted; bring it back with "
            f"`MLFLOW_TRACKING_URI={quote(shown)} {restore}` or choose "
            f"another with tracking.experiment=NAME; {_kept()}"
        )
    return Connection(client, shown, experiment.experiment_id, int(experiment.creation_time or 0))


def _experiment(client: "MlflowClient", name: str, artifacts: str | None) -> "Experiment":
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found
    tags = {"mlflow.note.content": EXPERIMENT_NOTE}
    try:
        return client.get_experiment(client.create_experiment(name, artifacts, tags))
    except MlflowException as error:  # another process was quicker
        found = client.get_experiment_by_name(name)
        if found is None:
            raise error
        return found


def probe(uri: str, *, busy: bool = False) -> None:
    """Look at a database or a server directly, since MLflow itself would wait for minutes; `busy`: others may write.

    Raises:
        TrackingError: it is unreachable, silent, locked, read-only or corrupt.
    """
    database = database_path(uri)
    with explained(uri, "cannot be used"):
        if database is not None:
            _probe_sqlite(database, busy=busy)
        elif urlsplit(uri).scheme in ("http", "https"):
            within(_PROBE_S, lambda: _probe_http(uri))


def _probe_sqlite(database: Path, *, busy: bool) -> None:
    if not database.exists() or database.stat().st_size == 0:
        return
    connection = sqlite3.connect(database, timeout=_PROBE_S, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version}")  # BEGIN alone takes one that is read-only
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if not (busy and error.sqlite_errorcode == sqlite3.SQLITE_BUSY):
            raise
    finally:
        connection.close()


def _probe_http(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_PROBE_S):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # it answers; a proxy or a login may stand before it
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError) and "certificate" not in str(error.reason).lower():
            raise error.reason from error
