"""Each job in a process of its own, forked warm from a server that has imported torch once.

A crash, an out-of-memory kill or a hang of the child becomes an `Ending`; the caller goes on.
"""

import contextlib
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from src.processes.children import PRELOAD_VARIABLE, fork_server
from src.processes.host_memory import oom_kills
from src.records.environment import versions

_NOT_TO_TORCH = {
    '"',
    "\\",
    "\n",
}  # in the name of its cache's folder: it would find no vector units, and be slow
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

    @property
    def reason(self) -> str:
        """One line, for a record that the child could not write."""
        if self.by is EndedBy.MEMORY:
            return "the kernel killed the run's process: it took more of the host's memory than it may"
        if self.by is EndedBy.SIGNAL and self.code is not None:
            name = signal.Signals(-self.code).name
            hint = ": the kernel's out-of-memory killer, or kill -9" if name == "SIGKILL" else ""
            return f"the run's process died of {name}{hint}"
        return f"the run's process ended with exit status {self.code} and without a record"


class Preloaded:
    """A fork server with the heavy modules imported; children start from it in milliseconds."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Args: modules: module names, or dotted paths of classes whose import takes long."""
        os.environ[PRELOAD_VARIABLE] = ",".join(modules)
        fork_server()  # it imports while the caller goes on

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
        kills = oom_kills()
        context = fork_server()  # another, if that one has died
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(sender, log, job, arguments))
        process.start()
        sender.close()
        try:
            ending = _listen(process, receiver, timeout_s, hear, watch)
        finally:
            _end(process)
            receiver.close()
        killed = ending.by is EndedBy.SIGNAL and ending.code == -signal.SIGKILL
        if killed and (kills or 0) < (oom_kills() or 0):
            return Ending(EndedBy.MEMORY, code=ending.code)
        return ending


def share_caches(outputs: Path) -> None:
    """What this process sets before it starts a fork server: where compiled code is kept, for all runs.

    Apart by version: torch's keys know its own version, not that of torchao, whose tensors are compiled. And by a
    limit on the CPU's instruction sets, which they do not know either: int8 code made without it gave NaN with it.
    """
    found = versions()
    limits = [
        os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    compiled_by = "-".join(["torch", found["torch"], "torchao", found["torchao"], *limits]).replace("+", "_")
    place = outputs / "cache"
    if _NOT_TO_TORCH & {*str(place)}:
        place = Path(tempfile.gettempdir()) / f"quantpay-cache-{os.getuid()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place / "inductor" / compiled_by))
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else a look for CUDA spoils the fork server


def _listen(
    process: ForkServerProcess,
    receiver: Connection,
    timeout_s: float,
    hear: Callable[[str], None],
    watch: Callable[[], None] | None,
) -> Ending:
    deadline = math.inf
    while True:
        left = min(max(0.0, deadline - time.monotonic()), _WATCH_S if watch else math.inf)
        ready = wait([receiver, process.sentinel], timeout=None if left == math.inf else left)
        if watch is not None:
            watch()
        if not ready and time.monotonic() >= deadline:
            return Ending(EndedBy.TIMEOUT)
        if receiver in ready:
            try:
                kind, content = receiver.recv()
            except (EOFError, OSError):  # no more is there, or half a message
                return _died(process)
            if kind == "answer":
                process.join(_GRACE_S)
                return Ending(EndedBy.ITSELF, answer=content, code=process.exitcode)
            if kind == "started":
                deadline = time.monotonic() + timeout_s
            else:
                hear(content)
        elif process.sentinel in ready and not receiver.poll():
            return _died(process)


def _died(process: ForkServerProcess) -> Ending:
    process.join(_GRACE_S)
    code = process.exitcode
    return Ending(EndedBy.SIGNAL if code is not None and code < 0 else EndedBy.EXIT, code=code)


def _end(process: ForkServerProcess) -> None:
    """End the child's whole process group (compiler workers among it); does nothing to one that ended."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if not process.is_alive():
            break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, sign)
        process.join(_GRACE_S)


def _child(sender: Connection, log: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # Ctrl-C reaches the parent alone, which ends this group in order
    with log.open("a", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name, number in {"stdout": 1, "stderr": 2}.items():  # the log is UTF-8, whatever the terminal is
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
    sender.send(("started", os.getpid()))
    answer = job(*arguments, lambda text: sender.send(("phase", text)))
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(("answer", answer))
    sender.close()
