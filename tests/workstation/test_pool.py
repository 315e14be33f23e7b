"""Sweeps on several devices of one machine: real processes, devices by name only."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.config.errors import ConfigError
from src.config.paths import override
from src.config.schema.cluster import PoolConf, SlurmRequest
from src.devices.visible import visible_devices
from src.records.record import write_json
from src.records.store import read_manifest
from src.workstation.pool import DevicePool
from src.workstation.sweep import devices_of
from tests.conftest import Called
from tests.launching.scripted import make_manifest
from tests.slurm.jobs import wait
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "tests" / "slurm" / "conf"
CHEAP = ("model=linear", "model.dims={M:4,K:64,N:64}", "dtype=bfloat16", "compile=none", "tracking=none")
LAUNCHER = ("hydra/launcher=submitit_local", "hydra.launcher.poll_s=0.2")
ENV = {"SLURMD_NODENAME": "h100-1", "CUDA_VISIBLE_DEVICES": "3,GPU-5"}  # what the stubs look at


@pytest.fixture(autouse=True)
def computes() -> None:
    """Nothing is computed in this process, which does without torch."""


def env(outputs: Path) -> dict[str, str]:
    """Other test sessions on this machine do not see the made-up devices as theirs."""
    return (
        os.environ
        | ENV
        | {"TMPDIR": str(outputs.parent), "RELEASE": str(outputs / "release"), "PYTHONPATH": "src"}
    )


def command(outputs: Path, *overrides: str) -> list[str]:
    python = [sys.executable, "-m", "src.run", "--config-dir", str(CONF), "-m"]
    return [*python, *CHEAP, *LAUNCHER, override("outputs", outputs), *overrides]


def sweep(outputs: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(outputs, *overrides), env=env(outputs), cwd=ROOT, capture_output=True, text=True, timeout=240
    )


def started(outputs: Path, *overrides: str) -> subprocess.Popen[str]:
    """A sweep that goes on, with a process group of its own, as a shell gives it."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        command(outputs, *overrides), env=env(outputs), cwd=ROOT, start_new_session=True, **pipes
    )


def collect(outputs: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """On the newest sweep."""
    newest = max(outputs.glob("sweeps/*"), key=lambda path: path.name).name
    python = [sys.executable, "-m", "src.collect", "tracking=none", f"outputs={outputs}", f"sweep={newest}"]
    return subprocess.run(
        [*python, "poll_s=0.5", *overrides], cwd=ROOT, capture_output=True, text=True, timeout=240
    )


def records(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(outputs.glob("runs/*/*/record.json"))]


def started_s(record: dict[str, Any]) -> float:
    return float(record["details"]["span_s"][0])


def ended_s(record: dict[str, Any]) -> float:
    return float(record["details"]["span_s"][1])


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=started_s)


def outcomes(outputs: Path) -> list[str]:
    return sorted(record["outcome"] for record in records(outputs))


def running(outputs: Path) -> list[dict[str, Any]]:
    """The claims of the runs that have no record."""
    claims = list(outputs.glob("runs/*/*/claim.json"))
    return [json.loads(path.read_text()) for path in claims if not path.with_name("record.json").exists()]


def _jobs_output(outputs: Path) -> str:
    return "".join(path.read_text() for path in outputs.glob("sweeps/*/submitit_local/*/*_0_log.out"))


def both_run(outputs: Path) -> bool:
    return _jobs_output(outputs).count("sleeping") == 2


def test_each_device_has_one_run_at_a_time(tmp_path: Path) -> None:
    """In folders with names as people give them, one of them TMPDIR, far too long for a socket.

    PYTHONPATH is another project's, and names a folder that is here a package's.
    """
    outputs = tmp_path / f"größe #1 100% {'long ' * 20}" / "My runs"
    outputs.mkdir(parents=True)
    done = sweep(outputs, "gpu=h100", "seed=range(3)", "task=sleep", "measure.budget_s=0.5")
    assert done.returncode == 0, done.stderr
    found = in_order(records(outputs))
    assert [record["outcome"] for record in found] == ["ok"] * 3
    by_device: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        by_device.setdefault(record["details"]["seen"]["CUDA_VISIBLE_DEVICES"], []).append(record)
    assert by_device.keys() == {"3", "GPU-5"}
    for runs in by_device.values():
        assert all(ended_s(earlier) <= started_s(later) for earlier, later in pairwise(runs))


def test_a_run_that_is_killed_and_one_on_another_device_have_their_outcome(tmp_path: Path) -> None:
    done = sweep(tmp_path, "gpu=h100,a100", "seed=2", "task=by_seed")
    assert done.returncode == 1, done.stderr
    found = {(record["axes"]["gpu"], record["outcome"]) for record in records(tmp_path)}
    assert found == {("h100", "killed"), ("a100", "unsupported")}


def test_ctrl_c_ends_what_runs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sent = ("gpu=h100", "seed=range(3)", "task=sleep")
    driver = started(tmp_path, *sent, "measure.budget_s=300")
    until(lambda: both_run(tmp_path))
    os.killpg(driver.pid, signal.SIGINT)  # a terminal tells the whole group
    text = driver.communicate(timeout=240)[0]
    assert driver.returncode == 130, text
    assert outcomes(tmp_path) == ["killed", "killed"]
    assert not _alive_with(tmp_path)
    assert "go on" not in text
    again = sweep(tmp_path, *sent, "measure.budget_s=0.2")
    assert again.returncode == 0, again.stderr
    assert "3 to send" in again.stderr
    assert outcomes(tmp_path) == ["killed", "killed", "ok", "ok", "ok"]
    assert len(list(tmp_path.glob("runs/*/*"))) >= 5


def test_what_runs_outlives_a_killed_driver_and_every_run_has_its_end(tmp_path: Path) -> None:
    """Of three runs one goes on to its record, one is killed as well, one has never started."""
    sent = ("gpu=h100", "seed=range(3)", "task=until_released", "measure.budget_s=300")
    driver = started(tmp_path, *sent)
    until(lambda: both_run(tmp_path))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    job = psutil.Process(running(tmp_path)[0]["pid"])
    for process in [job, *job.children(recursive=True)]:
        process.kill()
    (tmp_path / "release").touch()
    watched = collect(tmp_path, "--watch")
    assert watched.returncode == 1, watched.stdout + watched.stderr
    found = {record["outcome"]: record for record in records(tmp_path)}
    assert found.keys() == {"lost", "killed", "ok"}
    assert "never started" in found["lost"]["reason"]
    assert found["killed"]["details"]["job"]["state"] == "FAILED"
    assert "submitit_local" in found["killed"]["remedy"]  # where the log is


def test_what_still_runs_is_waited_for_not_sent_again_and_left_alone_by_anothers_ctrl_c(
    tmp_path: Path,
) -> None:
    sent = ("gpu=h100", "seed=range(3)", "task=until_released", "measure.budget_s=300")
    first = started(tmp_path, *sent)
    until(lambda: both_run(tmp_path))
    second = started(tmp_path, *sent)
    assert second.stdout is not None
    assert any("under way already" in line for line in second.stdout)  # it follows
    os.killpg(second.pid, signal.SIGINT)
    text = second.communicate(timeout=240)[0]
    assert second.returncode == 130, text
    assert len(running(tmp_path)) == 2
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    again = started(tmp_path, *sent)
    assert again.stdout is not None
    assert any("2 under way already" in line for line in again.stdout)
    (tmp_path / "release").touch()
    text = again.communicate(timeout=240)[0]
    assert again.returncode == 0, text
    assert outcomes(tmp_path) == ["ok", "ok", "ok"]
    one, other, third = in_order(records(tmp_path))
    assert started_s(third) > min(ended_s(one), ended_s(other))  # never two on a device


def test_another_process_can_cancel(tmp_path: Path) -> None:
    driver = started(tmp_path, "gpu=h100", "seed=1,2", "task=sleep", "measure.budget_s=300")
    until(lambda: both_run(tmp_path))
    done = collect(tmp_path, "cancel=true")
    assert "2 done (killed)" in done.stdout, done.stdout + done.stderr
    assert driver.wait(timeout=240) == 1
    assert outcomes(tmp_path) == ["killed", "killed"]


REFUSED = {
    "gpu=cpu": ("gpu=cpu", "hydra.launcher.devices=[]"),  # side by side they would disturb each other
    "outputs=50%j": ("50%j: SLURM and submitit put a number or a name in place of %j",),
}


@pytest.mark.parametrize("shown", REFUSED)
def test_what_the_pool_does_not_take_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: Callable[..., Called], shown: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ENV["CUDA_VISIBLE_DEVICES"])
    outputs = tmp_path / shown.removeprefix("outputs=")
    gpu = shown if shown.startswith("gpu") else "gpu=h100"
    done = called(*command(outputs, gpu, "batch=1,2")[3:])
    assert done.status == 2, done.stderr
    assert all(words in done.stderr for words in REFUSED[shown])
    assert not list(outputs.glob("runs/*"))
    assert not list(outputs.glob("sweeps/*"))


@pytest.mark.parametrize(
    ("listed", "found"),
    [("0,1", ["0", "1"]), (" 2 , GPU-ab", ["2", "GPU-ab"]), ("", []), ("-1", []), ("1,-1,2", ["1"])],
)
def test_a_listed_device_is_a_slot(listed: str, found: list[str]) -> None:
    assert visible_devices({"CUDA_VISIBLE_DEVICES": listed}) == found


@pytest.mark.parametrize(
    ("devices", "slots"), [([0, 1], ["0", "1"]), (["GPU-ab", 3], ["GPU-ab", "3"]), ([], [""])]
)
def test_slots_are_the_devices_that_are_named(devices: list[Any], slots: list[str]) -> None:
    assert devices_of(PoolConf(devices=devices)) == slots


@pytest.mark.parametrize("devices", [[0, 0], [-1], [""], ["0,1"]])
def test_what_is_no_device_is_refused(devices: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.devices="):
        devices_of(PoolConf(devices=devices))


class Sleep:
    def __call__(self) -> None:
        wait(60)


def states(pool: DevicePool, jobs: Sequence[str]) -> list[str]:
    found = pool.states(jobs)
    return [found[job].state for job in jobs]


def test_a_device_that_another_sweep_uses_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = DevicePool(tmp_path, ["0"]), DevicePool(tmp_path, ["0", "1"])
    ran = one.submit("qp-s-0", SlurmRequest(), [Sleep()], tmp_path / "sweeps/s/submitit_local")
    assert states(one, ran) == ["RUNNING"]
    jobs = other.submit("qp-t-0", SlurmRequest(), [Sleep(), Sleep()], tmp_path / "sweeps/t/submitit_local")
    assert states(other, jobs) == ["RUNNING", "PENDING"]
    one.cancel(ran)
    assert states(other, jobs) == ["RUNNING", "RUNNING"]
    other.cancel(jobs)


def test_whether_a_sweeps_process_lives_is_asked_once_for_all_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever looks on: a file of a line per run, read for each of them, is minutes of a core that measures."""
    make_manifest(tmp_path, ["qp-s-0_0", "qp-s-0_1"], sweep="s")
    asked = []
    monkeypatch.setattr(
        "src.workstation.pool.read_manifest", lambda path: asked.append(path) or read_manifest(path)
    )
    assert states(DevicePool(tmp_path), ["qp-s-0_0", "qp-s-0_1"]) == ["PENDING", "PENDING"]
    assert len(asked) == 1


@pytest.mark.parametrize(("driven", "state"), [(False, "FAILED"), (True, "RUNNING")])
def test_a_job_whose_file_was_never_filled_ends_with_the_sweeps_own_process(
    tmp_path: Path, driven: bool, state: str
) -> None:
    """A full disk, or the power went."""
    make_manifest(tmp_path, ["qp-s-0_0"], sweep="s", driven=driven)
    job = tmp_path / "sweeps/s/submitit_local/qp-s-0_0"
    job.mkdir(parents=True)
    (job / "job.json").touch()
    assert states(DevicePool(tmp_path), ["qp-s-0_0"]) == [state]


def test_a_disk_that_is_full_leaves_no_half_of_a_jobs_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    pool = DevicePool(tmp_path)
    pool.submit("qp-s-0", SlurmRequest(), [Sleep()], tmp_path / "sweeps/s/submitit_local")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            DevicePool(tmp_path).cancel(["qp-s-0"])
    assert not list(tmp_path.glob("sweeps/s/submitit_local/qp-s-0/*"))
    assert states(pool, ["qp-s-0"]) == ["PENDING"]


def test_an_interrupt_while_a_job_starts_leaves_no_process_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(path: Path, content: dict[str, Any]) -> None:  # the process is there, and not yet written down
        signal.raise_signal(signal.SIGTERM)
        write_json(path, content)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("src.workstation.pool.write_json", told)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as src.workstation.sweep does
    pool = DevicePool(tmp_path, ["0"])
    jobs = pool.submit("qp-s-0", SlurmRequest(), [Sleep()], tmp_path / "sweeps/s/submitit_local")
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.states(jobs)
        pool.cancel(jobs)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not _alive_with(tmp_path)


def test_what_is_cancelled_before_it_starts_never_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pool = DevicePool(tmp_path, ["0"])
    first, second = pool.submit(
        "qp-s-0", SlurmRequest(), [Sleep(), Sleep()], tmp_path / "sweeps/s/submitit_local"
    )
    assert states(pool, [first, second]) == ["RUNNING", "PENDING"]
    DevicePool(tmp_path).cancel([second])  # by another process, which looks for it by its id
    assert states(pool, [first, second]) == ["RUNNING", "CANCELLED"]
    pool.cancel([first])
    assert states(pool, [first, second]) == ["FAILED", "CANCELLED"]


def _alive_with(outputs: Path) -> list[Any]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(outputs) in " ".join(process.info["cmdline"] or ())
    ]
