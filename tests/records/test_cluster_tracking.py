"""Many jobs and one tracker: nothing lost, nothing doubled, and no GPU kept waiting by a tracker that is unwell."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow.entities import Run, ViewType
from rich.console import Console

from src.collect import collect
from src.config.schema.root import CollectConf, RootConf, TrackingConf
from src.launching import publication as publishing
from src.launching.publication import left_to_its_job, publish_own
from src.records.mlflow import connection
from src.records.mlflow.connection import within
from src.records.mlflow.content import params, settings
from src.records.mlflow.points import points
from src.records.mlflow.tracking import Tracker, open_tracker
from src.records.record import read_record
from src.records.store import MARKER_NAME, SweepManifest, sweep_folder
from tests.records.run_folders import free_port, local, make_run, make_sweep
from tests.records.servers import POSTGRES, Server, forward, http_server, packets_swallowed, postgresql, reply

ROOT = Path(__file__).resolve().parents[2]
GIVES_UP_S = 240  # "seconds" on a busy machine; MLflow alone waits for 246


@pytest.fixture(autouse=True)
def computes() -> None:
    """Nothing is computed in this process, which does without torch."""


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine's server is not down."""
    monkeypatch.setattr(connection, "_PROBE_S", 60.0)
    monkeypatch.setattr(publishing, "_OWN_S", 240.0)


def over(uri: str, sweep: str) -> TrackingConf:
    return TrackingConf("server", uri=uri, experiment=sweep, publish="worker")


def job(conf: TrackingConf) -> RootConf:
    cfg: Any = SimpleNamespace(tracking=conf)
    return cfg


class Writers:
    """writers.py, one process for all tests: what it imports takes longer than what it does."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "tests/records/writers.py"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, do: str, outputs: Path, uri: str, sweep: str) -> None:
        assert self.process.stdin is not None
        print(json.dumps([do, str(outputs), uri, sweep]), file=self.process.stdin, flush=True)

    def finish(self) -> list[str]:
        """What was answered to what was started."""
        assert self.process.stdout is not None
        return list(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    made = Writers()
    with made.process:
        yield made
        assert made.process.stdin is not None
        made.process.stdin.close()


def many_runs(outputs: Path, sweep: str, number: int) -> list[Path]:
    folders = [make_run(outputs, f"key{i:02d}", sweep, quant=f"q{i}") for i in range(number)]
    make_sweep(outputs, sweep, folders, dead=True)
    return folders


def collected(outputs: Path, conf: TrackingConf) -> str:
    """What `src.collect` says; the number of published and of already published runs comes first."""
    console = Console(record=True, width=1000, file=StringIO())
    status = collect(CollectConf(conf, None, str(outputs)), console)
    text = console.export_text()
    assert status == 0, text
    return text


def runs(tracker: Tracker, kind: str = "run", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    found = tracker.client.search_runs(
        [tracker.connection.experiment_id], f"tags.kind = '{kind}'", view, max_results=1000
    )
    return list(found)


def assert_all_there_once(conf: TrackingConf, folders: list[Path]) -> None:
    """Each run once, with exactly its params, metrics, series and files, under the one parent."""
    tracker = open_tracker(conf)
    [parent] = runs(tracker, "sweep")
    found = {run.data.tags["run_key"]: run for run in runs(tracker)}
    assert len(runs(tracker)) == len(found) == len(folders)
    for folder in folders:
        run, record = found[folder.parent.name], read_record(folder / "record.json")
        assert (run.data.tags["published"], run.info.status) == ("1", "FINISHED")
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == params(record, settings(record, folder))
        assert run.data.metrics.keys() == {name for name, _, _ in points(record, folder)}
        assert record.metrics.items() <= run.data.metrics.items()
        series = tracker.client.get_metric_history(run.info.run_id, "rounds/speedup")
        assert sorted(point.step for point in series) == list(range(60))
        files = {file.path for file in tracker.client.list_artifacts(run.info.run_id)}
        assert files == {"record.json", "config.yaml", "rounds.json", "run.log"}


def test_jobs_publish_at_once(writers, server, tmp_path):
    folders = many_runs(tmp_path, "many", 6)
    writers.start("publish", tmp_path, server, "many")
    assert writers.finish() == ["None"] * 6
    markers = [folder / MARKER_NAME for folder in folders]
    published = sum(marker.exists() for marker in markers)  # on a busy machine all may give up
    conf = over(server, "many")
    assert f"{published} already there, 0 unreadable" in collected(tmp_path, conf)
    assert_all_there_once(conf, folders)


@pytest.mark.skipif(
    not POSTGRES.exists() or importlib.util.find_spec("psycopg2") is None,
    reason="needs Debian's postgresql and psycopg2",
)
def test_jobs_publish_at_once_over_postgresql(writers, tmp_path):
    folders = many_runs(tmp_path, "postgresql", 16)
    with postgresql() as database:
        server = Server(tmp_path, database, workers=2)
        try:
            server.start()
            writers.start("publish", tmp_path, server.uri, "postgresql")
            assert writers.finish() == ["None"] * 16
            conf = over(server.uri, "postgresql")
            collected(tmp_path, conf)
            assert_all_there_once(conf, folders)
        finally:
            server.stop()


def test_a_server_that_is_cut_off_and_comes_back(writers, tmp_path, empty_database):
    folders = many_runs(tmp_path, "cut", 5)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    server = Server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    ends, one_at_a_time = [], threading.Lock()

    def until_the_second_ends(handler):
        with one_at_a_time:
            ends.extend([handler.path] if handler.path.endswith("/runs/update") else [])
            if len(ends) == 2:
                server.stop(signal.SIGKILL)
            if not server.process:
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
            status, body = forward(handler, server.uri)
        reply(handler, status, body, Content_Type="application/json")

    try:
        server.start()
        with http_server(until_the_second_ends) as proxy:
            writers.start("publish", tmp_path, proxy, "cut")
            assert writers.finish() == ["None"] * 5
            left = [folder for folder in folders if not (folder / MARKER_NAME).exists()]
            assert len(left) >= 4
            assert all("not published from here" in (folder / "run.log").read_text() for folder in left)
            server.start()
            text = collected(tmp_path, over(proxy, "cut"))
        assert f"{len(left)} published, {5 - len(left)} already there" in text
        assert_all_there_once(over(server.uri, "cut"), folders)
    finally:
        server.stop()


@pytest.mark.parametrize("where", ["server", "new database"])
def test_four_processes_open_a_sweep_at_once_and_publish(writers, server, tmp_path, where):
    folders = many_runs(tmp_path, "four", 2)
    uri = server if where == "server" else f"sqlite:///{tmp_path}/mlflow.db"
    writers.start("open", tmp_path, uri, "four")
    parents = writers.finish()
    tracker = open_tracker(over(uri, "four"))
    assert {*parents} == {run.info.run_id for run in runs(tracker, "sweep", ViewType.ALL)}
    assert len(parents) == 4
    assert tracker.parent_of(sweep_folder(tmp_path, "four")) == parents[0]
    writers.start("publish", tmp_path, uri, "four")
    assert writers.finish() == ["None"] * 2
    assert_all_there_once(over(uri, "four"), folders)


def test_what_is_published_again_over_a_server_is_there_once(server, tmp_path):
    folders, sweep = many_runs(tmp_path, "again", 2), sweep_folder(tmp_path, "again")
    conf = over(server, "again")
    tracker = open_tracker(conf)
    parent = tracker.parent_of(sweep)
    for folder in folders:
        tracker.publish(folder, parent)
    tracker.close_sweep(parent, sweep)
    for folder in folders:
        (folder / MARKER_NAME).unlink()
    another = open_tracker(conf)
    for folder in folders:
        another.publish(folder, another.parent_of(sweep))
    assert_all_there_once(conf, folders)
    assert tracker.link("again").startswith(f"charts: {server}/#/experiments/")


def test_an_answer_that_is_lost_doubles_nothing(server, tmp_path):
    [folder] = many_runs(tmp_path, "lost-answer", 1)
    created = []

    def answer(handler):
        status, body = forward(handler, server)
        if handler.path.endswith("/runs/create"):
            created.append(body)
            if len(created) % 2:  # carried out, and the client never hears of it
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
        reply(handler, status, body, Content_Type="application/json")

    with http_server(answer) as proxy:
        publish_own(job(over(proxy, "lost-answer")), folder, sweep_folder(tmp_path, "lost-answer"))
    conf = over(server, "lost-answer")
    tracker = open_tracker(conf)
    assert len(created) == 4
    assert [len(runs(tracker, kind, ViewType.ALL)) for kind in ("sweep", "run")] == [2, 2]
    assert_all_there_once(conf, [folder])


def test_a_creation_that_is_carried_out_late_leaves_one_run(tracker, outputs, monkeypatch):
    folder = make_run(outputs, "key", "s")
    parent = tracker.open_sweep(SweepManifest("s"), sweep_folder(outputs, "s"))
    create, upload = tracker.client.create_run, tracker.client.log_artifact
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tracker.client, "create_run", lambda *args: given.append(args) or create(*args))
    monkeypatch.setattr(tracker.client, "log_artifact", lambda *args: create(*given[0]) and upload(*args))
    run_id = tracker.publish(folder, parent)
    assert [run.info.run_id for run in runs(tracker)] == [run_id]
    assert len(runs(tracker, view=ViewType.ALL)) == 5


def test_a_job_uses_the_parent_that_the_driver_noted(tracker, outputs):
    [folder] = many_runs(outputs, "s", 1)
    parent = tracker.open_sweep(SweepManifest("s"), sweep_folder(outputs, "s"))
    (sweep_folder(outputs, "s") / "sweep.json").unlink()  # what is noted is enough
    publish_own(job(local(outputs)), folder, sweep_folder(outputs, "s"))
    [run] = runs(tracker)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert "warning" not in (folder / "run.log").read_text()


def test_a_job_with_tracking_off_publishes_nothing(tmp_path):
    publish_own(job(TrackingConf("none", False, "")), tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def own_certificate(tmp_path: Path, target: str = "") -> Iterator[str]:
    """A server over TLS whose authority nobody knows; with a target it hands requests on."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out c.pem"
    )
    command += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "c.pem").read_text())

    def answer(handler):
        reply(
            handler, *(forward(handler, target) if target else (200, b"{}")), Content_Type="application/json"
        )

    with http_server(answer, both) as uri:
        yield uri


def answers(status: int, body: bytes = b"", **headers: str) -> AbstractContextManager[str]:
    return http_server(lambda handler: reply(handler, status, body, **headers))


UNWELL = {
    "down": (lambda _: nullcontext(f"http://127.0.0.1:{free_port()}"), "Connection refused"),
    "packets swallowed": (lambda _: packets_swallowed(), "timed out"),
    "no such host": (lambda _: nullcontext("http://mlflow.invalid:5000"), "cannot be used"),
    "no login": (lambda _: answers(401), "MLFLOW_TRACKING_USERNAME"),
    "not allowed": (lambda _: answers(403, b"go away"), "go away"),
    "host not allowed": (lambda _: answers(403, b"Invalid Host header"), "--allowed-hosts"),
    "come back in an hour": (lambda _: answers(503, Retry_After="3600"), "503"),
    "login page": (lambda _: answers(200, b"<html>Who are you?"), "cannot be opened"),
    "certificate": (own_certificate, "MLFLOW_TRACKING_SERVER_CERT_PATH"),
}


@pytest.mark.parametrize("what", UNWELL)
def test_a_job_gives_up_within_seconds(tmp_path, monkeypatch, what):
    if what == "packets swallowed":
        monkeypatch.setattr(connection, "_PROBE_S", 1.0)
    serve, expected = UNWELL[what]
    [folder] = many_runs(tmp_path, "s", 1)
    started = time.monotonic()
    with serve(tmp_path) as uri:
        publish_own(job(over(uri, "s")), folder, sweep_folder(tmp_path, "s"))
    assert time.monotonic() - started < GIVES_UP_S
    last = (folder / "run.log").read_text().splitlines()[-1]
    assert "warning: not published from here" in last
    assert expected in last
    assert "src.collect" in last
    assert not (folder / MARKER_NAME).exists()


def test_a_job_gives_up_a_server_that_stops_answering(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "_OWN_S", 0.5)
    [folder] = many_runs(tmp_path, "s", 1)
    with http_server(lambda _: time.sleep(3)) as uri:
        publish_own(job(over(uri, "s")), folder, sweep_folder(tmp_path, "s"))
    assert "timed out after 0.5 s" in (folder / "run.log").read_text()


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    with pytest.raises(TimeoutError, match=r"timed out after 0\.2 s"):
        within(0.2, lambda: socket.create_connection(("tracker", 80)))


def test_a_certificate_of_ones_own_can_be_named(server, tmp_path, monkeypatch):
    [folder] = many_runs(tmp_path, "own-certificate", 1)
    with own_certificate(tmp_path, server) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "c.pem"))
        publish_own(job(over(uri, "own-certificate")), folder, sweep_folder(tmp_path, "own-certificate"))
    assert (folder / MARKER_NAME).exists()
    assert_all_there_once(over(server, "own-certificate"), [folder])


@pytest.mark.parametrize(
    ("tracking", "ended", "left"),
    [
        ({"enabled": True, "publish": "worker"}, False, True),
        ({"enabled": True, "publish": "worker"}, True, False),
        ({"enabled": True, "publish": "collector"}, False, False),
        ({"enabled": False, "publish": "worker"}, False, False),
        (None, False, False),
    ],
)
def test_one_publisher_at_a_time(tmp_path, tracking, ended, left):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"tracking": tracking}))
    assert left_to_its_job(tmp_path, over=ended) is left
