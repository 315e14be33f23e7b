"""A real database and a real server to publish to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.records.mlflow.tracking import Tracker, open_tracker
from tests.records.run_folders import local
from tests.records.servers import Server


@pytest.fixture
def tracker(outputs: Path) -> Tracker:
    return open_tracker(local(outputs))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """The address of an MLflow server with one worker."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    running = Server(folder, f"sqlite:///{folder}/mlflow.db")
    try:
        running.start()
        yield running.uri
    finally:
        running.stop()
