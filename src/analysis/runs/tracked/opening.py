"""How a tracking store is opened for reading: a database's file, MLflow's client, or what is wrong with it."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.errors import ConfigError
from src.config.lines import first_line
from src.config.paths import command, database_path
from src.config.schema.root import TrackingConf
from src.config.tracking_uri import without_password
from src.records.mlflow.connection import TrackingError, mend_folder, probe

if TYPE_CHECKING:
    from mlflow import MlflowClient

_QUIET = {  # MLflow alone waits 246 s for a server that is down
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class NoDatabaseError(ConfigError):
    """A local store has no file yet: nothing was measured here."""


def database_of(conf: TrackingConf) -> Path | None:
    """The file of a local store; None where a server or another database is asked.

    Raises:
        ConfigError: no address is given, or what it names doesn't answer; NoDatabaseError.
    """
    if not conf.uri:
        raise ConfigError(
            f"tracking={conf.name}: has no uri to read runs from; use tracking=sqlite or tracking=server"
        )
    database = database_path(conf.uri)
    if database is not None and not database.is_file():
        raise NoDatabaseError(
            f"tracking.uri={conf.uri}: no database at {database}; {command('run')} makes it, "
            "or set outputs=FOLDER or tracking.uri=..."
        )
    if database is None:
        _probed(without_password(conf.uri))
    return database


def client_of(conf: TrackingConf) -> "MlflowClient":
    """MLflow's client, quiet and soon tired of waiting; imports MLflow, which takes seconds.

    Raises:
        ConfigError: the store cannot be opened.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    mend_folder()
    try:
        return MlflowClient(conf.uri)
    except Exception as error:  # a broken database raises SQLAlchemy's, a bad scheme MLflow's
        raise unreachable(without_password(conf.uri), error) from error


def _probed(uri: str) -> None:
    try:
        probe(uri)
    except TrackingError as error:
        raise unreachable(uri, error.__cause__ or error) from error


def unreachable(uri: str, error: BaseException) -> ConfigError:
    """What is said of a store that cannot be read, with the first line of the error."""
    return ConfigError(
        f"tracking.uri={uri}: cannot be read ({first_line(error, 160)}); is the tracker running, the URI right?"
    )
