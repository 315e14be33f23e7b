"""Which version of the program this is, by its own files: for what it keeps of what it computed."""

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from src.config.paths import ROOT

_FOLDERS = ("src", "conf")
_COMPUTED_WITH = ("numpy", "pandas", "scipy", "scikit-learn", "rich")
Stamp = list[str | int]


@cache
def program() -> str:
    """Tells this program, and what it computes and draws with, from other versions."""
    files = (path for name in _FOLDERS for path in sorted((ROOT / name).rglob("*.*")))
    told = [*stamps(path for path in files if path.suffix != ".pyc")]
    told += [[name, version(name)] for name in _COMPUTED_WITH]
    return sha256(f"{told} {platform.python_version()}".encode()).hexdigest()


def stamps(files: Iterable[Path]) -> Iterator[Stamp]:
    """Each file that is there, with what is another once its content is."""
    for path in files:
        with suppress(OSError):
            found = path.stat()
            yield [str(path), found.st_ino, found.st_size, found.st_mtime_ns]
