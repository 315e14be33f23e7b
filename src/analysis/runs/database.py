"""Published runs straight out of MLflow's SQLite database: its own search takes a minute for 17,000 runs.

The tables are those of MLflow 3; where they are others, `opened` says so and MLflow's client is asked. Nothing is
written: the file is opened read-only. A column is read at a time, in the order of the run ids.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from src.analysis.runs.source import TAGS, Texts, as_text, attempts
from src.records.mlflow.options import OPTIONS_TAG

MARKS = [*TAGS, "speedup/ratio", "speedup/ci_low", "speedup/ci_high", "latency/median_ms"]
_WAIT_S = 5.0
_CHOSEN = """
    CREATE TEMP TABLE chosen AS
    SELECT runs.run_uuid AS id, runs.start_time AS start_ms FROM tags
    JOIN runs ON runs.run_uuid = tags.run_uuid
    JOIN tags AS done ON done.key = 'published' AND done.run_uuid = tags.run_uuid AND done.value = '1'
    WHERE tags.key = 'kind' AND tags.value = 'run'
        AND runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
    ORDER BY id"""
_COLUMN = (
    "SELECT {value} FROM chosen LEFT JOIN {table} AS t ON t.key = ? AND t.run_uuid = id ORDER BY chosen.rowid"
)
_NAMES = """
    WITH RECURSIVE names(name) AS (
        SELECT min(key) FROM latest_metrics
        UNION ALL SELECT (SELECT min(key) FROM latest_metrics WHERE key > name) FROM names WHERE name IS NOT NULL
    ) SELECT name FROM names WHERE name IS NOT NULL"""
_SETTINGS = """
    SELECT id, key, value FROM missing JOIN params ON params.run_uuid = id
    WHERE key LIKE 'quant.%' OR key LIKE 'compile.%' OR key LIKE 'model.%'
        OR key IN ('task.compares', 'measure.margin', 'measure.confidence')"""


class OtherTablesError(Exception):
    """The database cannot be read in this way; MLflow's client may be able to."""


class Database:
    """The published runs of one experiment as a source (`src.analysis.runs.source.Source`), of all or of some ids."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        rows = connection.execute("SELECT id, start_ms FROM chosen ORDER BY rowid").fetchall()
        self.ids = [row[0] for row in rows]
        self.starts_ms = [row[1] or 0 for row in rows]

    def param(self, name: str) -> Texts:
        """A parameter of each run."""
        return self._column("params", "t.value", name)

    def tag(self, name: str) -> Texts:
        """A tag of each run."""
        return self._column("tags", "t.value", name)

    def options(self) -> Sequence[str]:
        """The options of each run as JSON; of one that has no such tag out of its parameters."""
        told = self.tag(OPTIONS_TAG)
        missing = [run_id for run_id, text in zip(self.ids, told, strict=True) if not text]
        found = self._settings(missing) if missing else {}
        return [text or as_text(found.get(run_id, {})) for run_id, text in zip(self.ids, told, strict=True)]

    def metrics(self) -> Mapping[str, Sequence[float | None]]:
        """Each metric by its name."""
        names = [row[0] for row in self._connection.execute(_NAMES)]
        return {name: self.metric(name) for name in names}

    def metric(self, name: str) -> list[float | None]:
        """A metric of each run."""
        return self._column("latest_metrics", "CASE t.is_nan WHEN 1 THEN NULL ELSE t.value END", name)

    def marks(self) -> pd.DataFrame:
        """What of a published run can change, by run id: its tags, and of its metrics those that decide."""
        texts = {name: [text or "" for text in self.tag(name)] for name in TAGS}
        numbers = {name: pd.array(self.metric(name), dtype="float64") for name in MARKS if "/" in name}
        return pd.DataFrame(texts, index=self.ids, dtype="str").assign(**numbers)

    def attempts(self, ids: Iterable[str] | None) -> pd.DataFrame:
        """The rows of some runs; None: of all."""
        return attempts(self if ids is None else self._only(ids))

    def _only(self, ids: Iterable[str]) -> "Database":
        self._connection.execute("CREATE TEMP TABLE asked (id TEXT PRIMARY KEY)")
        self._connection.executemany("INSERT INTO asked VALUES (?)", ((each,) for each in ids))
        self._connection.execute("DELETE FROM chosen WHERE id NOT IN (SELECT id FROM asked)")
        return Database(self._connection)

    def _column(self, table: str, value: str, name: str) -> list[Any]:
        query = _COLUMN.format(value=value, table=table)
        return [row[0] for row in self._connection.execute(query, (name,))]

    def _settings(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        self._connection.execute("CREATE TEMP TABLE missing (id TEXT)")
        self._connection.executemany("INSERT INTO missing VALUES (?)", ((each,) for each in ids))
        found: dict[str, dict[str, str]] = {}
        for run_id, name, text in self._connection.execute(_SETTINGS):
            found.setdefault(run_id, {})[name] = text
        self._connection.execute("DROP TABLE missing")
        return found


@contextmanager
def opened(path: Path, experiment_id: str) -> Iterator[Database]:
    """An experiment of a database.

    Raises:
        OtherTablesError: it has no such tables, or is locked or damaged.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_WAIT_S)
        try:
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(_CHOSEN, (int(experiment_id),))
            yield Database(connection)
        finally:
            connection.close()
    except (sqlite3.Error, ValueError) as error:
        raise OtherTablesError(str(error)) from error
