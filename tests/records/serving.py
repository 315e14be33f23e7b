"""`mlflow server` by forks of one process: its imports take 6 s of a CPU, and tests start it again and again.

A line on stdin is one server, as JSON: its folder and its arguments. The answer is its process' id. None outlives the
end of stdin, which is that of the tests.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

import uvicorn  # before MLflow's server, which asks whether it runs by it
from mlflow.cli import cli
from mlflow.server import fastapi_app  # noqa: F401 - what uvicorn imports


class GoesOn(subprocess.Popen[bytes]):
    """The Python that `mlflow server` starts for its server is this process."""

    def __init__(self, command: list[str], *_: object, env: dict[str, str], **__: object) -> None:
        assert command[1:3] == ["-m", "uvicorn"], command
        os.environ.update(env)
        uvicorn.main(command[3:])


def serve(folder: str, arguments: list[str]) -> NoReturn:
    """Be that server, in a session of its own, with its log in its folder."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(folder)
    log = os.open("server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(log, number)
    replaced: Any = subprocess
    replaced.Popen = GoesOn
    cli(["server", *arguments])
    raise AssertionError("it ends by SystemExit")


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever ended is gone at once
    servers = []
    for line in sys.stdin:
        if (server := os.fork()) == 0:
            serve(*json.loads(line))
        servers.append(server)
        print(server, flush=True)
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server, signal.SIGKILL)
