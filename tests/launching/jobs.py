"""What children do in the tests of isolation; importable by the fork server."""

import inspect
import json
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from src.config.schema.root import RootConf
from src.processes.answering import asked_by_nobody
from src.processes.children import fork_server
from src.records.record import Record

Tell = Callable[[str], None]


class Affinity:
    """Writes down the CPUs of the process that it runs in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        self.path.write_text(f"{sorted(os.sched_getaffinity(0))}")


def answer(value: int, tell: Tell) -> int:
    tell("computing")
    print("to the log")
    return value * 2


def has_imported(module: str, tell: Tell) -> bool:
    return module in sys.modules


def sources() -> str:
    import src

    return str(src.__file__)


def place(tell: Tell) -> dict[str, Any]:
    """Where a child is and what it imports; also a child's child, by a server of its own."""
    with ProcessPoolExecutor(1, mp_context=fork_server()) as pool:
        nested = pool.submit(sources).result()
    here = {"folder": str(Path.cwd()), "path": sys.path, "environment": dict(os.environ)}
    return here | {"src": sources(), "nested": nested}


def told_to_nobody(go: Path, tell: Tell) -> dict[str, bool]:
    """Speaks on after the process that asks it is gone; its answer is in a file too."""
    tell("waiting")
    found = {"before": asked_by_nobody()}
    while not go.exists():
        time.sleep(0.01)
    tell("going on")
    found["after"] = asked_by_nobody()
    go.with_name("answer.json").write_text(json.dumps(found))
    return found


def raise_error(tell: Tell) -> None:
    raise RuntimeError("a bug in the run")


def leave(status: int, tell: Tell) -> None:
    os._exit(status)


def kill_itself(number: int, tell: Tell) -> None:
    tell("load a package")
    os.kill(os.getpid(), number)
    time.sleep(60)


def signal_itself(number: int, tell: Tell) -> None:
    os.kill(os.getpid(), number)


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


def execute_at_once(cache: Path, runs: list[tuple[RootConf, Record, Path]], tell: Tell) -> list[Record]:
    """Each run in a process of its own, all of them compiling into one folder."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    with multiprocessing.get_context("fork").Pool(len(runs)) as processes:
        return processes.starmap(_execute, runs, chunksize=1)


def _execute(cfg: RootConf, record: Record, folder: Path) -> Record:
    from src.run import execute

    return execute(cfg, record, folder, lambda _: None)


class Counting:
    """A job whose state stays in its process."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, what: str, tell: Tell) -> tuple[int, int]:
        self.calls += 1
        tell(what)
        print(f"to the log of {what}")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fork":
            os.fork()
        return self.calls, os.getpid()


def compile_by_seed(cfg: RootConf, record: Record, cpus: frozenset[int], tell: Tell) -> None:
    """In the place of what compiles ahead: says its run's key; dies at seed 1, hangs at seed 2."""
    print(record.run_key, os.getpid(), flush=True)
    if cfg.seed == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if cfg.seed == 2:
        time.sleep(600)
