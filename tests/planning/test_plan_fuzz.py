"""Random command lines and model YAMLs: a plan or one line of error, never a traceback, never a wait.

`make test` tries 40 of them. 300, in a minute of a CPU:
`make test ARGS="tests/planning/test_plan_fuzz.py --hypothesis-profile=thorough"`.
"""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.conftest import Called
from tests.planning.random_lines import COMMAND, YAML

EXAMPLES = 300 if settings.get_current_profile_name() == "thorough" else 40
BRANCHES = """
name: odd
factory: {_target_: tests.planning.odd_models.Odd, does: branches}
inputs: {x: {shape: [batch, 8, 64]}}
targets: {denoiser: ""}
"""


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a plan waited for: connections, and sleeps of this thread (hypothesis has others).

    A program that is called, like a compiler for its version, is looked at every 50 ms.
    """
    found: list[object] = []
    sleep = time.sleep

    def slept(seconds: float) -> None:
        if seconds > 0.05 and threading.current_thread() is threading.main_thread():
            found.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(socket.socket, "connect", lambda _, address: found.append(address))
    monkeypatch.setattr(time, "sleep", slept)
    return found


@given(text=YAML, command=COMMAND)
@example(text=BRANCHES, command=("plan=true",))
@example(text=BRANCHES, command=("-m", "gpu=[[1]]", "plan=true"))
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_or_one_line(
    called: Callable[..., Called], tmp_path: Path, waited: list[object], text: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "odd.yaml").write_text(text, encoding="utf-8")
    done = called(f"--config-dir={tmp_path}", "model=odd", "gpu=cpu", f"outputs={tmp_path}/out", *command)
    assert done.status in (0, 2)
    assert "Traceback" not in done.stdout + done.stderr
    if done.status:
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
        assert done.stderr.startswith("error: ")
    else:
        assert (done.stdout[:6], done.stderr) == ("plan: ", "")
    assert waited == []
    assert not (tmp_path / "out").exists()
