"""The lock around listing and sending: nobody waits for the dead, nor for ever, nor where there are no locks."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.config.errors import ConfigError
from src.jobs.outputs_lock import LOCK_NAME, one_at_a_time

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_what_a_killed_command_held_is_free_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(ConfigError), one_at_a_time(tmp_path, patience_s=0):
        pass
    holder.kill()
    holder.wait()
    with one_at_a_time(tmp_path, patience_s=0):
        pass


def test_a_command_that_never_ends_is_waited_for_so_long_and_named(
    tmp_path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = rf"outputs={tmp_path}: .* remove {tmp_path / LOCK_NAME}"
    with pytest.raises(ConfigError, match=said), one_at_a_time(tmp_path, patience_s=0.5):
        raise AssertionError("the other has it")
    assert capsys.readouterr().err.count("waiting") == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_where_nothing_can_be_locked_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_at_a_time(tmp_path), one_at_a_time(tmp_path):
        pass
