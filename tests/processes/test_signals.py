"""A sweep's own process ends in order when its terminal goes; under nohup it stays."""

import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRIVING = {
    "local": "from src.local.server import prepared\nprepared(folder)",
    "submitit_local": (
        "from src.config.schema.cluster import PoolConf\nfrom src.workstation import sweep\n"
        "from types import SimpleNamespace\nsweep.run_on_cluster = lambda *_: None\n"
        "sweep.run_on_devices([SimpleNamespace(outputs=folder)], PoolConf(devices=[]), None)"
    ),
}
WAITING = """
try:
    (folder / "ready").touch()
    time.sleep(120)
    (folder / "end").write_text("never told")
except KeyboardInterrupt:
    print("to a terminal that is gone", flush=True)
    time.sleep(0.5)
    (folder / "end").write_text("in order")
"""


@pytest.mark.parametrize("launcher", DRIVING)
@pytest.mark.parametrize(
    ("signs", "ignored"),
    [
        ((signal.SIGTERM,), False),
        ((signal.SIGHUP, signal.SIGHUP), False),  # from the kernel and from the shell
        ((signal.SIGHUP, signal.SIGTERM), True),  # nohup: only the second is heard
        ((), False),  # the terminal itself is closed
    ],
)
def test_a_sweep_ends_in_order_with_its_terminal(
    tmp_path: Path, launcher: str, signs: tuple[signal.Signals, ...], ignored: bool
) -> None:
    start_up = f"import time\nfrom pathlib import Path\nfolder = Path({str(tmp_path)!r})"
    code = f"{start_up}\n{DRIVING[launcher]}\n{WAITING}"
    (tmp_path / "driver.py").write_text(code)
    start = [sys.executable, "-P", str(tmp_path / "driver.py")]
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.execve(start[0], start, os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 240
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for sign in signs:
        os.kill(child, sign)
        time.sleep(0.2)
        assert not (ignored and sign is signal.SIGHUP and os.waitpid(child, os.WNOHANG)[0])
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "end").read_text() == "in order"
