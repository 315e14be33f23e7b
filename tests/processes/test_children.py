"""Other Pythons import what this process imports, in whatever folder and with whatever TMPDIR they are started."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import forkserver, process
from pathlib import Path
from typing import Any

import pytest

from src.config.errors import ConfigError
from src.processes import children
from src.processes.isolated import EndedBy, Preloaded
from tests.fork_server import own_fork_server
from tests.launching import jobs

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = ("src.py", "random.py", "tempfile.py", "selectors.py", "torch.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules that cannot be imported, and a TMPDIR far too long for a socket."""
    here = tmp_path / "größe #1"
    here.mkdir()
    for name in NOT_OURS:
        (here / name).write_text("raise SystemExit('not ours')")
    (here / "users_own.py").write_text("")
    temporary = here / ("long " * 20)
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sys.path", [each for each in sys.path if each] + [str(here)])
    config: Any = process.current_process()._config  # type: ignore[attr-defined]
    before = config.pop("tempdir", None)
    with own_fork_server():
        yield here
    config["tempdir"] = before


def test_a_fork_server_imports_and_is_where_its_parent_is(folder: Path, tmp_path: Path) -> None:
    server = Preloaded(["users_own", "csv"])
    for module in ("users_own", "csv"):
        ending = server.run(jobs.has_imported, (module,), log=tmp_path / "log", timeout_s=60)
        assert (ending.by, ending.answer) == (EndedBy.ITSELF, True), (tmp_path / "log").read_text()
    forkserver._forkserver._stop()  # type: ignore[attr-defined] # as if it had died
    ending = server.run(jobs.place, (), log=tmp_path / "log", timeout_s=60)
    assert ending.by is EndedBy.ITSELF, (tmp_path / "log").read_text()
    found = ending.answer
    assert found["folder"] == str(folder)
    assert found["src"] == str(ROOT / "src" / "__init__.py")
    assert found["path"] == sys.path
    assert not {"PYTHONSAFEPATH", children.PLACE_VARIABLE} & found["environment"].keys()
    assert (
        found["nested"] == ROOT.as_posix() + "/src/__init__.py"
    )  # of a fork server that a child has started
    assert tempfile.gettempdir() == str(folder / ("long " * 20))


def test_a_spawned_process_does_too(folder: Path) -> None:
    with children.spawning(), multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(jobs.sources) == str(ROOT / "src" / "__init__.py")
    assert "PYTHONSAFEPATH" not in os.environ


def test_where_no_socket_can_lie_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_SHORT", ("/nowhere",))
    with pytest.raises(ConfigError, match=r"TMPDIR=.*too long for the path of a socket, and /nowhere cannot"):
        Preloaded([])


def test_where_nothing_can_be_written_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(ConfigError, match="no folder for temporary files can be written; set TMPDIR"):
        Preloaded([])
