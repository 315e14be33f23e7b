"""Which runs of a database may have changed since it was read: its tags are held against what they were, in blocks.

SQLite gives a thousand rows of a table as one text in a third of the time that a text per run takes. Only the runs of
a block whose text is another one are looked at. Metrics need not be compared: whatever MLflow makes of them, it has
added to the end of its table of all that were ever logged.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from pathlib import Path

import pandas as pd

from src.analysis.runs.tracked.kept import Kept
from src.analysis.runs.tracked.local_store import connected

DECIDING = ("speedup/ratio", "speedup/ci_low", "speedup/ci_high", "latency/median_ms")  # metrics
_ROWS = 1000  # of a block
_NOTHING_LOGGED = "nothing"
_FILES = "files"  # kept like a block: of the runs that were kept with the others
_END = "logged"  # kept like a block: the end of the metrics
_TEXT = (
    "SELECT group_concat(run_uuid), group_concat(key), group_concat(coalesce(value, char(30)), char(31)) "
    "FROM tags NOT INDEXED WHERE rowid BETWEEN ? AND ?"
)
_LAST = "SELECT max(rowid) FROM tags"
_LAST_LOGGED = "SELECT max(rowid) FROM metrics"
_LOGGED = (  # with the version of the tables, which only a new MLflow changes, and the metrics then perhaps with it
    "SELECT rowid || ' ' || run_uuid || ' ' || key || ' ' || value || ' ' || timestamp || ' ' || step || ' ' || "
    "is_nan || ' ' || (SELECT group_concat(version_num) FROM alembic_version) FROM metrics WHERE rowid = ?"
)
_SINCE = f"SELECT DISTINCT run_uuid FROM metrics WHERE rowid > ? AND key IN {DECIDING}"  # noqa: S608
Block = tuple[str, str]  # tells it from others; the ids of its runs


class Blocks:
    """The tags of a database and the end of its metrics, beside what they were when runs were last kept.

    Args:
        path: of the database.
        kept: where they are kept.
    """

    def __init__(self, path: Path, kept: Kept) -> None:
        self._path, self._kept = path, kept
        self._now: dict[str, Block] = {}
        self._end = ""

    def changed(self, files: Sequence[str]) -> set[str] | None:
        """The runs that may have changed; None: any.

        Args:
            files: those that the runs are kept in; with others than before nothing is known.

        Raises:
            OtherTablesError: the database has no such tables, or is locked or damaged.
        """
        before = self._before(files)
        end, logged = _logged(self._path, before.pop(_END, ("", ""))[0])
        self._now = dict(_blocks(self._path, before))
        self._end = end
        if not before or logged is None:
            return None
        others = [
            name for name in before.keys() | self._now.keys() if before.get(name) != self._now.get(name)
        ]
        texts = [known[name][1] for name in others for known in (before, self._now) if name in known]
        return logged.union(*(text.split(",") for text in texts))

    def keep(self, files: Sequence[str]) -> None:
        """Keep them as when `changed` looked, which was before any run was read, for the runs in these files."""
        rows = [(_FILES, " ".join(files), ""), (_END, self._end, "")]
        rows += [*((name, *block) for name, block in self._now.items())]
        frame = pd.DataFrame(rows, columns=["run_id", "text", "runs"]).astype("str")
        self._kept.write(frame, frame, anew=True)

    def _before(self, files: Sequence[str]) -> dict[str, Block]:
        found = self._kept.read()
        if found is None:
            return {}
        columns: Sequence[list[str]] = [found[name].tolist() for name in ("text", "runs")]
        known: dict[str, Block] = dict(zip(found["run_id"].tolist(), zip(*columns, strict=True), strict=True))
        return known if known.pop(_FILES, ("", ""))[0] == " ".join(files) else {}


def _logged(path: Path, before: str) -> tuple[str, set[str] | None]:
    """The end of the metrics, and the runs that deciding ones were added of since `before`; None: any.

    The end of before is still where it was, unless rows went or got other numbers.
    """
    with connected(path) as connection:
        (last,) = connection.execute(_LAST_LOGGED).fetchone()
        (now,) = connection.execute(_LOGGED, (last,)).fetchone() if last else (_NOTHING_LOGGED,)
        then = 0 if before == _NOTHING_LOGGED else int(before.partition(" ")[0] or -1)
        if then:
            found = connection.execute(_LOGGED, (then,)).fetchone()
            if found is None or found[0] != before:
                return now, None
        return now, {run_id for (run_id,) in connection.execute(_SINCE, (then,))}


def _blocks(path: Path, before: Mapping[str, Block]) -> Iterator[tuple[str, Block]]:
    """The blocks of the tags by name; one that is as before is that of before."""
    with connected(path) as connection:
        connection.text_factory = bytes
        (last,) = connection.execute(_LAST).fetchone()
        for first in range(0, (last or 0) + 1, _ROWS):
            ids, *others = connection.execute(_TEXT, (first, first + _ROWS - 1)).fetchone()
            if ids is not None:
                name = f"tags {first}"
                told = sha1(b"\x1e".join([ids, *others]), usedforsecurity=False).hexdigest()
                known = before.get(name)
                yield name, known if known and known[0] == told else (told, _once(ids))


def _once(ids: bytes) -> str:
    return b",".join(dict.fromkeys(ids.split(b","))).decode()
