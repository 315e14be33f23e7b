"""Whatever a run's process does, its parent gets an ending and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.processes.isolated import EndedBy, Preloaded
from tests.fork_server import own_fork_server
from tests.launching import jobs

ROOT = Path(__file__).resolve().parents[2]
ASKING = """
import sys
from pathlib import Path
from src.processes.isolated import Preloaded
from tests.launching.jobs import told_to_nobody

folder = Path(sys.argv[1])
child = Preloaded([]).stay(told_to_nobody)
hear = lambda text: print(child.pid, text, flush=True)
child.ask((folder / "go",), log=folder / "log", timeout_s=240, hear=hear)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Preloaded]:
    with own_fork_server():
        yield Preloaded(["json.tool", "collections.abc.Mapping", "no.such.module"])


def is_gone(pid: int) -> bool:
    """Soon, but for a zombie that nobody reaps."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_job_answers_and_its_output_goes_to_the_log(server: Preloaded, tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "run.log"
    ending = server.run(jobs.answer, (21,), log=log, timeout_s=240, hear=heard.append)
    assert (ending.by, ending.answer) == (EndedBy.ITSELF, 42)
    assert heard == ["computing"]
    assert "to the log" in log.read_text()


def test_children_start_with_the_modules_imported(server: Preloaded, tmp_path: Path) -> None:
    ending = server.run(jobs.has_imported, ("json.tool",), log=tmp_path / "log", timeout_s=240)
    assert ending.answer is True


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_death_by_a_signal_is_named(server: Preloaded, tmp_path: Path, number: signal.Signals) -> None:
    ending = server.run(jobs.kill_itself, (number,), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code) == (EndedBy.SIGNAL, -number)
    assert f"{number.name}, at: load a package" in ending.reason
    assert ("out-of-memory" in ending.reason) == (number == signal.SIGKILL)


def test_death_in_the_middle_of_an_answer_is_one_too(server: Preloaded, tmp_path: Path) -> None:
    ending = server.run(jobs.die_in_mid_sentence, (), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code) == (EndedBy.SIGNAL, -signal.SIGKILL)


def test_an_exit_without_an_answer_gives_its_status(server: Preloaded, tmp_path: Path) -> None:
    ending = server.run(jobs.leave, (3,), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code) == (EndedBy.EXIT, 3)
    assert "3" in ending.reason


def test_an_exception_leaves_its_traceback_in_the_log(server: Preloaded, tmp_path: Path) -> None:
    ending = server.run(jobs.raise_error, (), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code) == (EndedBy.EXIT, 1)
    assert "a bug in the run" in (tmp_path / "log").read_text()


def test_a_hang_ends_with_all_that_it_started(server: Preloaded, tmp_path: Path) -> None:
    started = time.monotonic()
    for timeout_s in (1, 10, 100):  # on a busy machine it takes a while to hang
        ending = server.run(
            jobs.hang_with_grandchild, (tmp_path / "pids",), log=tmp_path / "log", timeout_s=timeout_s
        )
        assert ending.by is EndedBy.TIMEOUT
        if (tmp_path / "pids").exists():
            break
    assert time.monotonic() - started < 240
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert is_gone(pid)


def test_an_interrupt_ends_the_child_and_goes_on_upwards(server: Preloaded, tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background suite
    try:
        with pytest.raises(KeyboardInterrupt):
            server.run(
                jobs.hang_with_grandchild,
                (tmp_path / "pids",),
                log=tmp_path / "log",
                timeout_s=240,
                hear=interrupt,
            )
    finally:
        signal.signal(signal.SIGINT, before)
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert is_gone(pid)


def test_slurm_s_warning_to_all_of_a_job_ends_no_child(server: Preloaded, tmp_path: Path) -> None:
    """It is the job's own process that is to leave."""
    ending = server.run(jobs.signal_itself, (signal.SIGUSR2,), log=tmp_path / "log", timeout_s=240)
    assert ending.by is EndedBy.ITSELF


def test_the_next_job_runs_as_if_nothing_had_happened(server: Preloaded, tmp_path: Path) -> None:
    server.run(jobs.kill_itself, (signal.SIGKILL,), log=tmp_path / "log", timeout_s=240)
    assert server.run(jobs.answer, (1,), log=tmp_path / "log", timeout_s=240).answer == 2


def test_a_child_that_stays_keeps_its_state_and_writes_to_the_log_of_each_question(
    server: Preloaded, tmp_path: Path
) -> None:
    child, heard = server.stay(jobs.Counting()), []
    for number, what in enumerate(["first", "second", "third"], start=1):
        ending = child.ask((what,), log=tmp_path / what, timeout_s=240, hear=heard.append)
        assert ending.answer[0] == number
        assert (tmp_path / what).read_text() == f"to the log of {what}\n"
    assert heard == ["first", "second", "third"]
    child.close()
    assert not child.alive
    assert is_gone(ending.answer[1])


def test_a_child_that_stays_dies_of_one_question(server: Preloaded, tmp_path: Path) -> None:
    child = server.stay(jobs.Counting())
    assert child.ask(("first",), log=tmp_path / "log", timeout_s=240).answer[0] == 1
    ending = child.ask(("die",), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code, child.alive) == (EndedBy.SIGNAL, -signal.SIGKILL, False)


def test_a_child_that_was_killed_between_two_questions_is_an_ending(
    server: Preloaded, tmp_path: Path
) -> None:
    child = server.stay(jobs.Counting())
    pid = child.ask(("first",), log=tmp_path / "log", timeout_s=240).answer[1]
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    ending = child.ask(("second",), log=tmp_path / "log", timeout_s=240)
    assert (ending.by, ending.code) == (EndedBy.SIGNAL, -signal.SIGKILL)


def test_a_copy_that_a_job_forked_answers_nothing(server: Preloaded, tmp_path: Path) -> None:
    child = server.stay(jobs.Counting())
    pid = child.ask(("first",), log=tmp_path / "log", timeout_s=240).answer[1]
    assert child.ask(("fork",), log=tmp_path / "log", timeout_s=240).answer == (2, pid)
    assert child.ask(("third",), log=tmp_path / "log", timeout_s=240).answer == (3, pid)
    child.close()


def test_what_was_begun_ends_quietly_where_whoever_asked_was_killed(tmp_path: Path) -> None:
    """Its last words and its answer reach nobody; that is no fault of its own."""
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKING, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert asking.stdout is not None
    pid, _, phase = asking.stdout.readline().partition(" ")
    assert phase == "waiting\n"
    asking.kill()
    asking.wait()
    (tmp_path / "go").touch()
    assert is_gone(int(pid))
    assert json.loads((tmp_path / "answer.json").read_text()) == {"before": False, "after": True}
    assert "Traceback" not in (tmp_path / "log").read_text()
