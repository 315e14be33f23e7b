"""What ends a sweep's own process in order: SIGTERM, and a terminal that is closed."""

import os
import signal
import stat
from collections.abc import Callable
from types import FrameType
from typing import Any

_OUTPUTS = (1, 2)  # file descriptors


def end_in_order(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Let a handler, which raises, answer SIGTERM and SIGHUP.

    SIGHUP comes when the terminal is closed or the connection to it lost. Under nohup it stays ignored. It may come
    twice, from the kernel and from the shell, or after SIGTERM: then the end is under way. What is written to a
    terminal that is gone would be an error in the middle of it: it is dropped.
    """
    ending = False

    def told(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        before, ending = ending, True
        if number == signal.SIGHUP:
            _drop_terminals()
            if before:
                return
        handler(number, frame)

    signal.signal(signal.SIGTERM, told)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, told)


def _drop_terminals() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in _OUTPUTS:
        if stat.S_ISCHR(os.fstat(output).st_mode):
            os.dup2(nowhere, output)
    os.close(nowhere)
