"""Locks between processes, of the kernel's: they go with the process that holds them, however that ends.

(filelock takes a file's mere existence for the lock where the file system has none; that would outlive a crash.)
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05


@contextmanager
def locked(path: Path, patience_s: float, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let no other process into such a block until this one ends; wait for one that is in it.

    Where the file system cannot lock (ENOSYS, ENOLCK, EOPNOTSUPP), nobody waits.

    Args:
        path: of the lock's file, which is made and stays.
        waiting: called once when there is somebody to wait for.

    Raises:
        TimeoutError: the other is not done after that time.
        OSError: the file cannot be opened or made; PermissionError where it is another user's.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline, told = time.monotonic() + patience_s, False
        while not _taken(lock):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {patience_s:.0f} s")
            if not told:
                waiting()
                told = True
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # there are no locks here
        return True
    return True
