"""What an analysis told, kept: where nothing changed that it is made of, it is told again instead of computed.

What it is made of: the program's own files, the arguments, the terminal, the entries of devices, which folders of
runs and sweeps there are, and the published runs and calibrations. These are not even read where the database is the
very same file as when they were read last. What an analysis of one sweep, an import or a forecast says is not kept.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from src.analysis.runs.tracked.kept import kept_folder
from src.config.paths import command, config_dir_flag, config_folders, database_path
from src.config.program import Stamp, program, stamps
from src.config.schema.root import AnalyzeConf
from src.hardware.nvidia import nvidia_names
from src.records.record import write_json
from src.records.store import LEFT_NAME, MANIFEST_NAME

SCHEMA = 1


class Told:
    """What the analysis before told, of the same arguments.

    Args:
        conf: the arguments.
        console: what is printed on; all of that is recorded.
    """

    def __init__(self, conf: AnalyzeConf, console: Console) -> None:
        self._console, console.record = console, True
        self._database = database_path(conf.tracking.uri)
        asked = json.dumps([asdict(conf), str(Path.cwd())], sort_keys=True)
        self._path = kept_folder(Path(conf.outputs)) / f"told-{_digest(asked)}.json"
        self._kept = not (conf.sweep or conf.imports or conf.predict) and self._database is not None
        told_by = [program(), _terminal(console), nvidia_names(), config_dir_flag(), [*stamps(_cards())]]
        self._made_of = _digest(json.dumps([*told_by, [*_folders(Path(conf.outputs))]]))
        self._stamps = [*stamps(self._files())]  # from before anything is read
        self._before = self._read() if self._kept else {}
        self._runs = ""
        self._reports: list[Stamp] = []

    @property
    def untouched(self) -> bool:
        """Whether the database is the same file as when its runs were found to be those of that analysis."""
        return bool(self._before) and self._before["database"] == self._stamps

    def same(self, runs: str) -> bool:
        """Whether these runs are those of that analysis.

        Args:
            runs: tells them from others.
        """
        self._runs = runs
        if not self._before or self._before["runs"] != runs:
            return False
        self._write(self._before | {"database": self._stamps})
        return True

    def again(self) -> None:
        """Print what that analysis printed."""
        since = f"nothing new since {self._before['made']}: the answer and the report of then"
        self._console.print(since, soft_wrap=True, markup=False)
        self._console.file.write(self._before["text"])

    def wrote(self, reports: Iterable[Path]) -> None:
        """Hear of the files just written: what changes one of them from now on makes the analysis another one."""
        self._reports = [*stamps(reports)]

    def keep(self) -> None:
        """Keep what was printed, as told of the runs that `same` was asked about, beside the files it `wrote`."""
        if self._kept and self._runs:
            styled = self._console.color_system is not None
            self._write({
                "schema": SCHEMA, "made_of": self._made_of, "runs": self._runs, "database": None,
                "reports": self._reports, "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                "text": self._console.export_text(clear=False, styles=styled),
            })  # fmt: skip

    def _read(self) -> dict[str, Any]:
        """What is kept; empty where there is nothing, or that was made of something else."""
        try:
            kept: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            reports = [*stamps(Path(name) for name, *_ in kept["reports"])]
            true = (kept["schema"], kept["made_of"], kept["reports"]) == (SCHEMA, self._made_of, reports)
            return kept if true and all(name in kept for name in ("runs", "made", "text", "database")) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self, kept: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            write_json(self._path, kept)

    def _files(self) -> list[Path]:
        """The database, and what SQLite may have beside it."""
        names = (f"{self._database}{end}" for end in ("", "-wal", "-journal"))
        return [Path(name) for name in names] if self._database else []


def _terminal(console: Console) -> list[Any]:
    wide = console.file.isatty()  # else tables are as wide as they are
    return [console.width, wide, console.color_system, console.encoding, command("run")]


def _cards() -> Iterator[Path]:
    """The files that name cards in commands; those of `--config-dir` are no part of the program."""
    for folder in config_folders():
        yield from sorted((folder / "gpu").glob("*.yaml"))


def _folders(outputs: Path) -> Iterator[Stamp]:
    """Which folders of runs there are, and of each sweep what it says of them."""
    sweeps = outputs / "sweeps"
    names = [sweep / name for sweep in sorted(sweeps.glob("*")) for name in (MANIFEST_NAME, LEFT_NAME)]
    yield from stamps([outputs / "runs", sweeps, *names])


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
