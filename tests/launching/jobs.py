"""What children do in the tests of isolation; importable by the fork server."""

import inspect
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

Tell = Callable[[str], None]


def answer(value: int, tell: Tell) -> int:
    tell("computing")
    print("to the log")
    return value * 2


def has_imported(module: str, tell: Tell) -> bool:
    return module in sys.modules


def raise_error(tell: Tell) -> None:
    raise RuntimeError("a bug in the run")


def leave(status: int, tell: Tell) -> None:
    os._exit(status)


def kill_itself(number: int, tell: Tell) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def die_in_mid_sentence(tell: Tell) -> None:
    """Half of an answer is in the pipe when the kill comes."""
    pipe = inspect.getclosurevars(tell).nonlocals["sender"]
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def hang_with_grandchild(pids: Path, tell: Tell) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen(["sleep", "600"])
    pids.write_text(f"{os.getpid()} {grandchild.pid}")
    tell("hanging")
    time.sleep(600)
