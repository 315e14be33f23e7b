"""MLflow servers that can be stopped and started again, and what stands between them and a client."""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.records.run_folders import free_port

POSTGRES = Path("/usr/lib/postgresql/15/bin")  # Debian's package


@functools.cache
def _forks_servers() -> "subprocess.Popen[str]":
    """One for all servers of this process; it ends with this process, whose pipe it reads."""
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("serving.py")],
        env=os.environ | quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class Server:
    """An MLflow server over a database, with its artifacts and its log in `folder`."""

    def __init__(self, folder: Path, database: str, workers: int = 1) -> None:
        self.folder, self.database, self.workers = folder, database, workers
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = 0

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = ["--port", str(self.port), "--workers", str(self.workers)]
        arguments += ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "a")]
        forks = _forks_servers()
        assert forks.stdin is not None
        assert forks.stdout is not None
        print(json.dumps([str(self.folder), arguments]), file=forks.stdin, flush=True)
        self.process = int(forks.stdout.readline())
        for _ in range(480):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            assert self._lives(), (self.folder / "server.log").read_text()
            time.sleep(0.25)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it and its workers; SIGKILL is a power cut."""
        if not self.process:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, number)
        deadline = time.monotonic() + 30
        while self._lives():
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.05)
        self.process = 0

    def _lives(self) -> bool:
        return Path(f"/proc/{self.process}").exists()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URI of an empty PostgreSQL database, in a cluster of its own that listens on a socket only."""
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)

    def call(tool: str, *arguments: str) -> None:
        subprocess.run([POSTGRES / tool, *arguments], user=user, cwd=folder, check=True, capture_output=True)

    data, options = str(folder / "data"), f"-c listen_addresses= -c unix_socket_directories={folder}"
    try:
        call("initdb", "--auth=trust", "--username=mlflow", "--no-sync", "--pgdata", data)
        log = str(folder / "log")
        call("pg_ctl", "--wait", "--pgdata", data, "--log", log, "--options", options, "start")
        try:
            call("createdb", "--host", str(folder), "--username=mlflow", "mlflow")
            yield f"postgresql+psycopg2://mlflow@/mlflow?host={folder}"
        finally:
            call("pg_ctl", "--pgdata", data, "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def http_server(answer: Answer, certificate: Path | None = None) -> Iterator[str]:
    """A server that says it is healthy, and answers everything else with `answer`; over TLS with a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            if self.path == "/health":
                reply(self, 200, b"OK")
            else:
                answer(self)

        do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """A complete answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def forward(handler: BaseHTTPRequestHandler, target: str) -> tuple[int, bytes]:
    """Hand a request on to the server at `target`; returns its answer."""
    connection = HTTPConnection(target.removeprefix("http://"), timeout=60)
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    names = ("Content-Type", "Accept")
    headers = {name: handler.headers[name] for name in names if handler.headers[name]}
    connection.request(handler.command, handler.path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextlib.contextmanager
def packets_swallowed() -> Iterator[str]:
    """An address on this machine where a connection is never made: the listener's queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
