"""The processes of a sweep that compile while its runs are measured; a run knows them for its own sweep's."""

import json
from collections.abc import Iterable
from pathlib import Path

from src.records.record import write_json
from src.records.store import is_alive, process

_NAME = "compilers.json"  # in a sweep's folder


def note_compilers(folder: Path, pids: Iterable[int]) -> None:
    """Write down in a sweep's folder which processes compile now."""
    write_json(folder / _NAME, [process(pid) for pid in pids])


def compilers_of(folder: Path) -> list[int]:
    """The process ids of those of a sweep that live, in this process' own namespace."""
    try:
        noted = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        return [int(each["pid"]) for each in noted if is_alive(each)]
    except (OSError, ValueError, TypeError, KeyError):
        return []
