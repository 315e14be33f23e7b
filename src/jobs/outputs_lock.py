"""One command at a time lists and sends runs into an outputs folder, so that the next one sees what it has sent.

A lock of the kernel's: it goes with the process that holds it, however that ends. (filelock takes a file's mere
existence for the lock where the file system has none; that would outlive a crash.)
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.config.errors import ConfigError

LOCK_NAME = ".sending.lock"
_PATIENCE_S = 1800.0  # 10,000 runs are listed and sent in two minutes, on a slow file system in ten
_POLL_S = 0.2


@contextmanager
def one_at_a_time(outputs: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Let no other command list and send runs into these outputs until the block ends; wait for one that does.

    Where the file system cannot lock, or the file is another user's, nobody waits: two commands that are given in the
    same moment may then both send.

    Args:
        outputs: the folder of all runs; it can be written.
        patience_s: how long is waited.

    Raises:
        ConfigError: the other command is not done after that time.
    """
    path = outputs / LOCK_NAME
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        yield
        return
    try:
        _wait_for(lock, path, time.monotonic() + patience_s)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, path: Path, deadline: float) -> None:
    said = False
    while not _taken(lock):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"outputs={path.parent}: another command has been sending runs into it for all this time; end that "
                f"first, or, if there is none on any machine, remove {path}"
            )
        if not said:
            print(f"another command is sending runs into {path.parent}; waiting for it", file=sys.stderr)
            said = True
        time.sleep(_POLL_S)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # ENOSYS, ENOLCK, EOPNOTSUPP: there are no locks here
        return True
    return True
