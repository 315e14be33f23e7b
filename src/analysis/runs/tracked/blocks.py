"""Which runs of a database may have changed since it was read: its tables are held against what they were, in blocks.

SQLite gives a thousand rows of a table as one text in a third of the time that a text per run takes. Only the runs of
a block whose text is another one are looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path

import pandas as pd

from src.analysis.runs.tracked.kept import Kept
from src.analysis.runs.tracked.local_store import connected

DECIDING = ("speedup/ratio", "speedup/ci_low", "speedup/ci_high", "latency/median_ms")  # metrics
_ROWS = 1000  # of a block
_FILES = "files"  # kept like a block: of the runs that were kept with the others
_TEXTS = {
    "tags": "group_concat(coalesce(value, char(30)), char(31)) FROM tags NOT INDEXED WHERE",
    "latest_metrics": "group_concat(value || ' ' || is_nan || ' ' || coalesce(timestamp, '')) "
    f"FROM latest_metrics NOT INDEXED WHERE +key IN ({', '.join(map(repr, DECIDING))}) AND",
}
_TEXT = "SELECT group_concat(run_uuid), group_concat(key), {} rowid BETWEEN ? AND ?"
_LAST = "SELECT max(rowid) FROM {}"
Block = tuple[str, str]  # tells it from others; the ids of its runs


class Blocks:
    """The tags and deciding metrics of a database, beside what they were when runs were last kept.

    Args:
        path: of the database.
        kept: where they are kept.
    """

    def __init__(self, path: Path, kept: Kept) -> None:
        self._path, self._kept = path, kept
        self._now: dict[str, Block] = {}

    def changed(self, files: Sequence[str]) -> set[str] | None:
        """The runs that may have changed; None: any.

        Args:
            files: those that the runs are kept in; with others than before nothing is known.

        Raises:
            OtherTablesError: the database has no such tables, or is locked or damaged.
        """
        before = self._before(files)
        with ThreadPoolExecutor(len(_TEXTS)) as each:  # none of it is Python's
            for found in each.map(lambda table: dict(_blocks(self._path, table, before)), _TEXTS):
                self._now |= found
        if not before:
            return None
        others = [
            name for name in before.keys() | self._now.keys() if before.get(name) != self._now.get(name)
        ]
        texts = [known[name][1] for name in others for known in (before, self._now) if name in known]
        return {run_id for text in texts for run_id in text.split(",")}

    def keep(self, files: Sequence[str]) -> None:
        """Keep them as when `changed` looked, which was before any run was read, for the runs in these files."""
        rows = [(_FILES, " ".join(files), ""), *((name, *block) for name, block in self._now.items())]
        frame = pd.DataFrame(rows, columns=["run_id", "text", "runs"]).astype("str")
        self._kept.write(frame, frame, anew=True)

    def _before(self, files: Sequence[str]) -> dict[str, Block]:
        found = self._kept.read()
        if found is None:
            return {}
        columns: Sequence[list[str]] = [found[name].tolist() for name in ("text", "runs")]
        known: dict[str, Block] = dict(zip(found["run_id"].tolist(), zip(*columns, strict=True), strict=True))
        return known if known.pop(_FILES, ("", ""))[0] == " ".join(files) else {}


def _blocks(path: Path, table: str, before: Mapping[str, Block]) -> Iterator[tuple[str, Block]]:
    """The blocks of a table by name; one that is as before is that of before."""
    query = _TEXT.format(_TEXTS[table])
    with connected(path) as connection:
        connection.text_factory = bytes
        (last,) = connection.execute(_LAST.format(table)).fetchone()
        for first in range(0, (last or 0) + 1, _ROWS):
            ids, *others = connection.execute(query, (first, first + _ROWS - 1)).fetchone()
            if ids is not None:
                name = f"{table} {first}"
                told = md5(b"\x1e".join([ids, *others]), usedforsecurity=False).hexdigest()
                known = before.get(name)
                yield name, known if known and known[0] == told else (told, _once(ids))


def _once(ids: bytes) -> str:
    return b",".join(dict.fromkeys(ids.split(b","))).decode()
