"""Jobs in processes apart, forked warm from a server that has imported torch once: one each, or several in turn.

A crash, an out-of-memory kill or a hang of the child becomes an `Ending`; the caller goes on.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from src.processes.answering import answer_all
from src.processes.children import PRELOAD_VARIABLE, fork_server
from src.processes.host_memory import oom_kills

_GRACE_S = 5.0  # between the polite and the final signal
_WATCH_S = 5.0  # between two looks of a parent that watches


class EndedBy(StrEnum):
    """How a child ended."""

    ITSELF = "itself"
    SIGNAL = "signal"
    MEMORY = "memory"  # a signal as well: the kernel's, for the host's memory
    TIMEOUT = "timeout"
    EXIT = "exit"  # an exit status of its own making, without an answer


@dataclass(frozen=True)
class Ending:
    """What the parent learnt of a child."""

    by: EndedBy
    answer: Any = None  # what the job returned
    code: int | None = None  # exit status, negative for a signal
    at: str = ""  # what the child last said that it was at

    @property
    def where(self) -> str:
        """What it was at, to be put behind a reason."""
        return f", at: {self.at}" if self.at else ""

    @property
    def reason(self) -> str:
        """One line, for a record that the child could not write."""
        if self.by is EndedBy.MEMORY:
            return f"the kernel killed the run's process{self.where}: it took more of the host's memory than it may"
        if self.by is EndedBy.SIGNAL and self.code is not None:
            name = signal.Signals(-self.code).name
            hint = ": the kernel's out-of-memory killer, or kill -9" if name == "SIGKILL" else ""
            return f"the run's process died of {name}{self.where}{hint}"
        return f"the run's process ended with exit status {self.code} and without a record{self.where}"


class Child:
    """A process that is asked one thing after another, until one of its endings is not by itself."""

    def __init__(self, job: Callable[..., Any]) -> None:
        """Args: job: what it calls for each question; an object's state stays in the process."""
        context = fork_server()  # another, if that one has died
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=answer_all, args=(theirs, job))
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0
        self._asked = 0
        self._at = ""
        self.alive = True

    def ask(
        self,
        arguments: tuple[Any, ...],
        *,
        log: Path,
        timeout_s: float,
        hear: Callable[[str], None] = lambda _: None,
        watch: Callable[[], None] | None = None,
    ) -> Ending:
        """Have it call ``job(*arguments, tell)``, as `Preloaded.run` does; it goes on after an ending by itself."""
        kills = oom_kills()
        self._asked += 1
        self._at = ""
        try:
            asked = self._send((self._asked, log, arguments))
            ending = self._listen(timeout_s, hear, watch) if asked else self._died()
        except BaseException:
            self.end()
            raise
        if ending.by is not EndedBy.ITSELF:
            self.end()
            ending = replace(ending, at=self._at)
        killed = ending.by is EndedBy.SIGNAL and ending.code == -signal.SIGKILL
        if killed and (kills or 0) < (oom_kills() or 0):
            return replace(ending, by=EndedBy.MEMORY)
        return ending

    def close(self) -> None:
        """Let it leave in its own way, then `end` it."""
        if self.alive and self._send(None):
            self._process.join(_GRACE_S)
        self.end()

    def end(self) -> None:
        """End the process' whole group: compiler workers, and what it forked, which may outlive it."""
        group = self.pid
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if not self._process.is_alive():
                break
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, sign)
            self._process.join(_GRACE_S)
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self._connection.close()
        self.alive = False

    def kill(self) -> None:
        """End it at once, from whatever thread: whoever is asking it learns that it died."""
        for end in (os.killpg, os.kill):  # it has no group of its own before it runs
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)

    def _send(self, message: tuple[Any, ...] | None) -> bool:
        """Whether it was there to be told."""
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def _listen(
        self, timeout_s: float, hear: Callable[[str], None], watch: Callable[[], None] | None
    ) -> Ending:
        deadline, process, receiver = math.inf, self._process, self._connection
        while True:
            left = min(max(0.0, deadline - time.monotonic()), _WATCH_S if watch else math.inf)
            ready = wait([receiver, process.sentinel], timeout=None if left == math.inf else left)
            if watch is not None:
                watch()
            if not ready and time.monotonic() >= deadline:
                return Ending(EndedBy.TIMEOUT)
            if receiver in ready:
                try:
                    number, kind, content = receiver.recv()
                except (EOFError, OSError):  # no more is there, or half a message
                    return self._died()
                if number != self._asked:
                    continue
                if kind == "answer":
                    return Ending(EndedBy.ITSELF, answer=content)
                if kind == "started":
                    deadline = time.monotonic() + timeout_s
                else:
                    self._at = content
                    hear(content)
            elif process.sentinel in ready and not receiver.poll():
                return self._died()

    def _died(self) -> Ending:
        self._process.join(_GRACE_S)
        code = self._process.exitcode
        return Ending(EndedBy.SIGNAL if code is not None and code < 0 else EndedBy.EXIT, code=code)


class Preloaded:
    """A fork server with the heavy modules imported; children start from it in milliseconds."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Args: modules: module names, or dotted paths of classes whose import takes long."""
        os.environ[PRELOAD_VARIABLE] = ",".join(modules)
        fork_server()  # it imports while the caller goes on

    def stay(self, job: Callable[..., Any]) -> Child:
        """A child that waits to be asked."""
        return Child(job)

    def run(
        self,
        job: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        log: Path,
        timeout_s: float,
        hear: Callable[[str], None] = lambda _: None,
        watch: Callable[[], None] | None = None,
    ) -> Ending:
        """Run ``job(*arguments, tell)`` in a child, `tell` sending lines to `hear`, its output going to `log`.

        The time limit starts when the child does: the server's own imports don't count. `watch` is called every few
        seconds. Whatever is raised here, by `watch` or by a signal (KeyboardInterrupt, SystemExit), the child and
        what it started are ended before the exception goes on.
        """
        child = self.stay(job)
        try:
            return child.ask(arguments, log=log, timeout_s=timeout_s, hear=hear, watch=watch)
        finally:
            child.close()
