"""What an analysis asks of MLflow's own SQLite database beside the runs: the experiment, calibrations, files.

MLflow's client answers the same, after the seconds that importing it takes.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_WAIT_S = 5.0
_EXPERIMENT = "SELECT experiment_id, creation_time FROM experiments WHERE name = ?"
_FILES = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"
_TAGS = """
    SELECT runs.run_uuid, runs.start_time, tags.key, tags.value FROM tags AS kinds
    JOIN runs ON runs.run_uuid = kinds.run_uuid
    JOIN tags AS done ON done.key = 'published' AND done.run_uuid = runs.run_uuid AND done.value = '1'
    JOIN tags ON tags.run_uuid = runs.run_uuid
    WHERE kinds.key = 'kind' AND kinds.value = ?
        AND runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
    ORDER BY runs.start_time DESC, runs.run_uuid"""


class OtherTablesError(Exception):
    """The database cannot be read in this way; MLflow's client may be able to."""


class Experiment(NamedTuple):
    """One of MLflow's."""

    id: str
    created_ms: int


class Tagged(NamedTuple):
    """A run, as far as its tags tell."""

    run_id: str
    start_ms: int
    tags: Mapping[str, str]


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A database, read-only.

    Raises:
        OtherTablesError: it has no such tables, or is locked or damaged.
    """
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S)) as connection:
            yield connection
    except (sqlite3.Error, ValueError) as error:
        raise OtherTablesError(str(error)) from error


def experiment_of(path: Path, name: str) -> Experiment | None:
    """The experiment of a name; None where there is none, or it cannot be told."""
    try:
        with connected(path) as connection:
            found = connection.execute(_EXPERIMENT, (name,)).fetchone()
            return Experiment(str(found[0]), int(found[1])) if found else None
    except (OtherTablesError, TypeError):
        return None


def tagged(path: Path, experiment_id: str, kind: str) -> list[Tagged]:
    """All published runs of a kind, newest first.

    Raises:
        OtherTablesError: they cannot be read in this way.
    """
    found: dict[str, tuple[str, int, dict[str, str]]] = {}
    with connected(path) as connection:
        for run_id, start_ms, name, text in connection.execute(_TAGS, (kind, int(experiment_id))):
            found.setdefault(run_id, (run_id, int(start_ms or 0), {}))[2][name] = text
    return [Tagged(*each) for each in found.values()]


def files_of(path: Path, run_id: str) -> Path | None:
    """The folder of a run's files on this disk; None where MLflow has them elsewhere, or it cannot be told."""
    try:
        with connected(path) as connection:
            found = connection.execute(_FILES, (run_id,)).fetchone()
    except OtherTablesError:
        return None
    address = urlsplit(found[0]) if found and found[0] else None
    if address is None or address.netloc or address.scheme not in ("", "file"):
        return None
    folder = Path(unquote(address.path) if address.scheme else found[0])
    return folder if folder.is_absolute() else None
