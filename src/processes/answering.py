"""A child's side: it is asked one thing after another, and answers each."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def answer_all(sender: Connection, job: Callable[..., Any]) -> None:
    """What such a process does, until it is told to leave or nobody is there any more.

    Where whoever asked is gone, what was begun goes on to its end, as what it writes is wanted all the same.
    """
    os.setsid()  # Ctrl-C reaches the parent alone, which ends this group in order
    while (asked := _question(sender)) is not None:
        number, log, arguments = asked
        log_to(log)
        _answer(sender, number, job, arguments)
    sender.close()


def _question(sender: Connection) -> tuple[int, Path, tuple[Any, ...]] | None:
    """What is asked next; None: nothing more, or nobody is there who could ask."""
    try:
        asked: tuple[int, Path, tuple[Any, ...]] | None = sender.recv()
    except (EOFError, OSError):
        return None
    return asked


def _answer(sender: Connection, number: int, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    own = os.getpid()

    def tell(text: str) -> None:
        if os.getpid() == own:
            _heard(sender, (number, "phase", text))

    if not _heard(sender, (number, "started", own)):
        return
    answer = job(*arguments, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() != own:  # the job forked, and this is the copy: it must not answer too
        os._exit(1)
    _heard(sender, (number, "answer", answer))


def _heard(sender: Connection, message: tuple[int, str, Any]) -> bool:
    """Tell it; whether anybody is there."""
    try:
        sender.send(message)
    except ConnectionError:
        return False
    return True


def asked_by_nobody() -> bool:
    """Whether the process is gone that started this child, so that nobody waits for its answer."""
    asking = multiprocessing.parent_process()
    return asking is not None and not asking.is_alive()


def log_to(log: Path) -> None:
    """From here on the output of this process, a child, and of what it starts goes there."""
    with log.open("a", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name, number in {"stdout": 1, "stderr": 2}.items():  # the log is UTF-8, whatever the terminal is
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
