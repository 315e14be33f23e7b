"""Published runs straight out of MLflow's SQLite database: its own search takes a minute for 17,000 runs.

The tables are those of MLflow 3; where they are others, `opened` says so and MLflow's client is asked. Nothing is
written: the file is opened read-only. What belongs to a run lies together in these tables, so they are read a run at
a time: a column at a time takes six times as long.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.analysis.runs.tracked.blocks import DECIDING
from src.analysis.runs.tracked.local_store import connected
from src.analysis.runs.tracked.source import AXES, SHAPE, TAGS, Texts, as_text, attempts
from src.records.mlflow.options import OPTIONS_TAG

PRINT = "tags_print"  # column: all tags of a run in one short text
_NUMBER = "CASE t.is_nan WHEN 1 THEN NULL ELSE t.value END"
_ACTIVE = "SELECT run_uuid, coalesce(start_time, 0) FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active'"
_TAGGED = """
    SELECT id, group_concat(t.key || '=' || coalesce(t.value, ''), char(31)) FROM asked
    CROSS JOIN tags AS t ON t.run_uuid = id GROUP BY asked.rowid"""
_SEPARATOR = "\x1f"  # char(31)
_RUN, _CALIBRATION, _PUBLISHED = (
    f"{_SEPARATOR}{tag}{_SEPARATOR}" for tag in ("kind=run", "kind=calibration", "published=1")
)
_EACH = """
    SELECT id, t.key, {value} FROM asked CROSS JOIN {table} AS t ON t.run_uuid = id WHERE {those}"""
_SETTINGS = """
    (t.key LIKE 'quant.%' OR t.key LIKE 'compile.%' OR t.key LIKE 'model.%'
        OR t.key LIKE 'recipe.%' OR t.key LIKE 'ladder.%' OR t.key LIKE 'training.%'
        OR t.key IN ('task.compares', 'task.steps', 'measure.margin', 'measure.confidence',
            'measure.in_turn_drift', 'treatment'))"""


class Database:
    """The published runs of one experiment; `attempts` reads them.

    Args:
        connection: to MLflow's database.
        experiment_id: of the experiment.
    """

    def __init__(self, connection: sqlite3.Connection, experiment_id: str) -> None:
        self._connection = connection
        self._starts_ms: dict[str, int] = dict(connection.execute(_ACTIVE, (int(experiment_id),)))
        self._calibrated: list[str] = []

    def marks(self, known: pd.DataFrame | None, changed: set[str] | None) -> pd.DataFrame:
        """What of a published run can change, by run id: its tags, and of its metrics those that decide.

        Args:
            known: rows of `attempts`, as the runs were; None: none is known.
            changed: runs that may be another than there; None: any.
        """
        columns = [PRINT, *DECIDING]
        if known is None or changed is None or not {*columns} <= {*known}:  # no run had a speedup yet
            return self._marks(self._starts_ms)
        stays = known["run_id"].astype(object).isin(self._starts_ms.keys() - changed)
        same = known.loc[stays, ["run_id", *columns]].set_index("run_id")
        return pd.concat([same, self._marks(self._starts_ms.keys() - {*same.index.tolist()})])

    def _marks(self, ids: Iterable[str]) -> pd.DataFrame:
        """`marks` of some runs, read now."""
        _ask(self._connection, ids)
        published: dict[str, str] = {}
        for run_id, text in self._connection.execute(_TAGGED):
            if _is(text, _RUN):
                published[run_id] = _print(text)
            elif _is(text, _CALIBRATION):
                self._calibrated.append(_print(f"{run_id} {self._starts_ms[run_id]} {text}"))
        those = f"+t.key IN ({_unknown(DECIDING)})"
        query = _EACH.format(table="latest_metrics", value=_NUMBER, those=those)
        found = _columns(published, self._connection.execute(query, DECIDING))
        numbers = {name: pd.array(found[name], dtype="float64") for name in DECIDING}
        texts = pd.DataFrame({PRINT: published.values()}, index=pd.Index([*published], dtype="str"))
        return texts.rename_axis("run_id").astype("str").assign(**numbers)

    @property
    def calibrated(self) -> bool:
        """Whether there is a published calibration."""
        return bool(self._calibrated)

    def told_apart(self, marks: pd.DataFrame) -> str:
        """Tells these runs, as `marks` has them, and the calibrations beside them from others."""
        each = np.sort(pd.util.hash_pandas_object(marks).to_numpy())
        return md5(each.tobytes() + str(sorted(self._calibrated)).encode(), usedforsecurity=False).hexdigest()

    def attempts(self, marks: pd.DataFrame) -> pd.DataFrame:
        """The rows of runs, as they are marked."""
        ids = [*marks.index]
        rows = attempts(Asked(self._connection, ids, [self._starts_ms[run_id] for run_id in ids]))
        return rows.assign(**{PRINT: marks[PRINT].reindex(rows["run_id"]).to_numpy()}).astype({PRINT: "str"})


class Asked:
    """Some runs of a database as a source (`src.analysis.runs.tracked.source.Source`)."""

    def __init__(self, connection: sqlite3.Connection, ids: Sequence[str], starts_ms: Sequence[int]) -> None:
        self._connection, self.ids, self.starts_ms = connection, ids, starts_ms
        _ask(connection, ids)

    def param(self, name: str) -> Texts:
        """A parameter of each run."""
        return self._params[name]

    def tag(self, name: str) -> Texts:
        """A tag of each run."""
        return self._tags[name]

    def options(self) -> Sequence[str]:
        """The options of each run as JSON; of one that has no such tag out of its parameters."""
        told = self.tag(OPTIONS_TAG)
        missing = {run_id for run_id, text in zip(self.ids, told, strict=True) if not text}
        found: dict[str, dict[str, str]] = defaultdict(dict)
        if missing:
            for run_id, name, text in self._each("params", "t.value", _SETTINGS):
                found[run_id][name] = text
        return [text or as_text(found[run_id]) for run_id, text in zip(self.ids, told, strict=True)]

    def metrics(self) -> Mapping[str, Sequence[float | None]]:
        """Each metric by its name."""
        return _columns(self.ids, self._each("latest_metrics", _NUMBER, "1"))

    @cached_property
    def _params(self) -> Mapping[str, Texts]:
        return self._texts("params", (*AXES, *SHAPE))

    @cached_property
    def _tags(self) -> Mapping[str, Texts]:
        return self._texts("tags", (*TAGS, OPTIONS_TAG))

    def _texts(self, table: str, names: Sequence[str]) -> Mapping[str, Texts]:
        return _columns(self.ids, self._each(table, "t.value", f"+t.key IN ({_unknown(names)})", names))

    def _each(self, table: str, value: str, those: str, names: Sequence[str] = ()) -> sqlite3.Cursor:
        """Run id, name and value of what a table has of the runs."""
        return self._connection.execute(_EACH.format(table=table, value=value, those=those), names)


def _ask(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Have the table ``asked`` hold these runs."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS asked (id TEXT PRIMARY KEY)")
    connection.execute("DELETE FROM asked")
    connection.executemany("INSERT INTO asked VALUES (?)", ((each,) for each in ids))


def _columns(ids: Iterable[str], found: Iterable[tuple[str, str, Any]]) -> Mapping[str, list[Any]]:
    """Values by name, in the order of the runs; None where a run has none."""
    place = {run_id: index for index, run_id in enumerate(ids)}
    columns: dict[str, list[Any]] = defaultdict(lambda: [None] * len(place))
    for run_id, name, value in found:
        if (index := place.get(run_id)) is not None:
            columns[name][index] = value
    return columns


def _unknown(names: Sequence[str]) -> str:
    return ",".join("?" * len(names))


def _is(tags: str, kind: str) -> bool:
    """Whether it is a published run of a kind: of the program, or a calibration."""
    told = f"{_SEPARATOR}{tags}{_SEPARATOR}"
    return kind in told and _PUBLISHED in told


def _print(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


@contextmanager
def opened(path: Path, experiment_id: str) -> Iterator[Database]:
    """An experiment of a database.

    Raises:
        OtherTablesError: it has no such tables, or is locked or damaged.
    """
    with connected(path) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")
        yield Database(connection, experiment_id)
