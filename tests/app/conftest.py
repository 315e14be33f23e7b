"""The application in this process, with a task that remembers what it was called with."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from omegaconf import DictConfig

from src.app.application import main
from src.checks.validation import validate
from src.config.schema.root import RootConf


@dataclass
class Called:
    """What one command line did."""

    status: int
    out: str
    err: str
    runs: list[RootConf] = field(default_factory=list)


Call = Callable[..., Called]


@contextmanager
def logging_as_before() -> Iterator[None]:
    """What Hydra sets up is for a process that ends with the command."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def keeps_logging() -> Iterator[None]:
    with logging_as_before():
        yield


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """call("batch=4", "-m", ..., status=lambda cfg: 0): multiruns run in this process, by Hydra's basic launcher."""

    monkeypatch.setattr(sys, "argv", ["run.py"])  # not what pytest, or a process of its, was called by

    def called(*argv: str, status: Callable[[RootConf], int] = lambda _: 0) -> Called:
        runs: list[RootConf] = []

        def task(config: DictConfig) -> int:
            runs.append(validate(config))
            return status(runs[-1])

        launcher = [] if "-sc" in argv else ["hydra/launcher=basic"]
        code = main("config", task, [*launcher, *argv], prog="python -m src.run")
        out, err = capsys.readouterr()
        return Called(code, out, err, runs)

    with logging_as_before():
        yield called
