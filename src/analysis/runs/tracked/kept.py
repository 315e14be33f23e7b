"""Attempts kept as Parquet beside the outputs, so that an analysis reads only the runs that are new or changed.

A folder per tracking store and experiment, with a file per time that something was added: the newest row of a run
counts, and which runs there are the database says each time. What of a published run can change is compared each time
(`Blocks`, `Database.marks`): its tags, the speedup, its interval and the latency. MLflow changes no
parameter. Whatever is wrong with a file, all are made anew.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.config.lines import first_line

SCHEMA = 5  # of the columns; files of another one are not read
_MOST_FILES = 20  # then they become one
_ABOUT = b"quantpay"  # key of the files' metadata


def kept_folder(outputs: Path) -> Path:
    """Where the rows of analyses are kept; it may be deleted at any time."""
    return outputs / "cache" / "analysis"


class Kept:
    """Rows by run id, on disk.

    Args:
        folder: for all of its kind.
        about: what the rows come from; others have files of their own.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._about = json.dumps({"schema": SCHEMA} | dict(about), sort_keys=True)
        self.folder = folder / hashlib.sha256(self._about.encode()).hexdigest()[:16]
        self.trouble = ""  # why what was there could not be used, one line

    def read(self) -> pd.DataFrame | None:
        """All rows, the newest of each run; None where nothing usable is there."""
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            tables = [parquet.read_table(path) for path in self._files()]
            if any((table.schema.metadata or {}).get(_ABOUT) != self._about.encode() for table in tables):
                raise ValueError("another version wrote it")
            if not tables:
                return None
            rows: pd.DataFrame = pyarrow.concat_tables(tables, promote_options="default").to_pandas()
            newest: pd.DataFrame = rows.drop_duplicates("run_id", keep="last", ignore_index=True)
            return newest
        except (OSError, ValueError, KeyError, AttributeError, TypeError, pyarrow.ArrowException) as error:
            self.trouble = f"{self.folder}: not readable ({first_line(error, 120)}); made anew"
            return None

    def write(self, everything: pd.DataFrame, new: pd.DataFrame, *, anew: bool) -> None:
        """Keep `new` beside what is there, or everything in one file; where it cannot be written, nothing."""
        anew = anew or len(self._files()) >= _MOST_FILES or 2 * len(new) > len(everything)
        with contextlib.suppress(OSError):
            if anew:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(everything if anew else new)

    @property
    def files(self) -> list[str]:
        """The names of the files that are there; what is written has a name of its own."""
        return [path.name for path in self._files()]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def _write(self, rows: pd.DataFrame) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        table = pyarrow.Table.from_pandas(rows, preserve_index=False)
        table = table.replace_schema_metadata(table.schema.metadata | {_ABOUT: self._about.encode()})
        path = self.folder / f"{time.time_ns():020d}.parquet"
        unfinished = path.with_suffix(f".{os.getpid()}")
        parquet.write_table(table, unfinished, compression="zstd")
        unfinished.replace(path)


def pieces(
    folder: Path | None, about: Mapping[str, Any], prints: Sequence[str], make: Callable[[int], Any]
) -> list[Any]:
    """What can be written as JSON, by what it is made of: what is kept, and the rest made now, and kept.

    Args:
        folder: of everything that is kept; None: nothing is.
        about: what all of it comes from.
        prints: of each piece, what tells what it is made of from anything else.
        make: the piece at a place of `prints`.
    """
    if folder is None:
        return [make(place) for place in range(len(prints))]
    kept = Kept(folder, about)
    before = kept.read()
    known: dict[str, str] = (
        {} if before is None else dict(zip(before["run_id"], before["found"], strict=True))
    )
    places = {each: place for place, each in enumerate(prints) if each not in known}
    new = {each: json.dumps(make(place)) for each, place in places.items()}
    known |= new
    every = pd.DataFrame({"run_id": prints, "found": [known[each] for each in prints]})
    if new:
        kept.write(every, every[every["run_id"].isin([*new])], anew=before is None)
    return [json.loads(text) for text in every["found"]]


def refreshed(
    kept: pd.DataFrame | None, marks: pd.DataFrame, read: Callable[[pd.DataFrame], pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows as they are now, and those of them that had to be read.

    Args:
        kept: rows from before; None: none.
        marks: by run id, what may have changed, with the same columns in `kept`; runs that it lacks are gone.
        read: rows of some runs, given their marks.
    """
    if kept is None or kept.empty or not {*marks} <= {*kept}:
        rows = read(marks)
        return rows, rows
    before = kept[["run_id", *marks]].set_index("run_id").reindex(marks.index)
    same = pd.Series(True, index=marks.index)
    for name in marks:
        same &= (before[name] == marks[name]) | (before[name].isna() & marks[name].isna())
    stays = kept["run_id"].astype(object).isin(marks.index[same].astype(object))  # in a tenth of the time
    unchanged = kept if stays.all() else kept[stays]
    if same.all():
        return unchanged, unchanged.iloc[:0]
    new = read(marks[~same])
    return pd.concat([unchanged, new], ignore_index=True), new
