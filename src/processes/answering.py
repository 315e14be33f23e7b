"""A child's side: it is asked one thing after another, and answers each."""

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def answer_all(sender: Connection, job: Callable[..., Any]) -> None:
    """What such a process does, until it is told to leave or nobody is there any more."""
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
            sender.send((number, "phase", text))

    sender.send((number, "started", own))
    answer = job(*arguments, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() != own:  # the job forked, and this is the copy: it must not answer too
        os._exit(1)
    sender.send((number, "answer", answer))


def log_to(log: Path) -> None:
    """From here on the output of this process, a child, and of what it starts goes there."""
    with log.open("a", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name, number in {"stdout": 1, "stderr": 2}.items():  # the log is UTF-8, whatever the terminal is
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
