"""A run on a node, in real processes: whatever happens, there is one record, or SLURM will start it again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import submitit

from src.config.schema.root import GpuConf, RootConf, TaskConf
from src.jobs.node import claims
from src.jobs.node import run as node
from src.jobs.node.claims import SIGNALLED, TERMINATED, VANISHED, read_claim
from src.jobs.node.run import RunJob
from src.launching.preparation import write_config
from src.processes import isolated
from src.processes.isolated import EndedBy, Ending
from src.records.environment import versions
from src.records.identity import Identity
from src.records.key import axes_of
from src.records.record import Outcome, Record, read_record
from src.records.store import next_attempt, run_folder
from src.run import execute
from tests.fork_server import own_fork_server
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
FATES = "tests.slurm.stubs.by_seed"
HANGS_AT_FIRST = "tests.launching.restarting.sleep_at_first"
SEEN, RAISES, KILLED, SLEEPS = 0, 1, 2, 4  # seeds of tests.slurm.stubs.by_seed

Made = Callable[..., Path]


@pytest.fixture(autouse=True)
def computes() -> None:
    """Nothing is computed in this process, which does without torch."""


@pytest.fixture(scope="module", autouse=True)
def a_fork_server_of_a_node() -> Iterator[None]:
    """One that an earlier test started would have that test's environment; one of this module would go on."""
    with own_fork_server(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURMD_NODENAME", "h100-1")
        patch.delenv("SLURM_RESTART_COUNT", raising=False)
        patch.setattr(node, "PRELOAD", ())  # no run needs torch
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_OTHER_NOTICES_S", 0.1)
    monkeypatch.setattr(node, "_SAME_SIGNAL_S", 0.1)


@pytest.fixture
def made(tmp_path: Path, compose: Callable[..., RootConf]) -> Made:
    """made(task, seed=0, ...) -> the folder of a run as it is sent to a cluster."""

    def make(task: str = FATES, timeout_s: float = 240.0, processes: int = 1, **identity: Any) -> Path:
        cfg = compose(f"seed={identity.pop('seed', 0)}", f"measure.timeout_s={timeout_s}")
        cfg.measure.processes = processes
        cfg.gpu = GpuConf("h100", _target_="tests.slurm.stubs.StubDevice")
        cfg.task = TaskConf("stub", task, compares=processes > 1)
        cfg.outputs = str(tmp_path)
        attempt = next_attempt(tmp_path, "0123456789abcdef")
        folder = run_folder(tmp_path, "0123456789abcdef", attempt)
        write_config(cfg, folder)
        made = Identity(
            "0123456789abcdef",
            attempt,
            "the-sweep",
            axes_of(cfg),
            outputs=str(tmp_path),
            cwd=str(ROOT),
            versions=versions(),
        )
        Identity(**(vars(made) | identity)).write(folder)
        return folder

    return make


@pytest.fixture
def started(made: Made) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """started(folder, ..., SLURM_JOB_ID="7"): a job's process of its own; all are gone afterwards."""
    processes = []

    def start(*folders: Path, **environment: str) -> subprocess.Popen[str]:
        code = (
            "import sys; from pathlib import Path; "
            "from src.jobs.node import claims, run as node; from src.processes import isolated;"
            "from src.run import execute;"
            "claims._OTHER_NOTICES_S = 1.5; isolated._WATCH_S = 0.2; node.PRELOAD = ();"  # no run needs torch
            "print(node.RunJob(tuple(map(Path, sys.argv[1:])), execute)(), flush=True)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, folders)],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def record(folder: Path) -> Record:
    return read_record(folder / "record.json")


def children_of(folder: Path) -> list[int]:
    """Processes that write to this run's log."""
    log, found = str(folder / "run.log"), []
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if str(link.readlink()) == log:
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return found


def test_the_runs_own_record(made: Made) -> None:
    folder = made(seed=SEEN)
    assert RunJob((folder,), execute)() == "ok"
    found = record(folder)
    assert (found.outcome, found.sweep, found.axes["gpu"]) == (Outcome.OK, "the-sweep", "h100")
    assert found.details["seen"]["SLURMD_NODENAME"] == "h100-1"
    assert "restarts" not in found.details


def test_several_runs_of_a_job_each_have_their_record(made: Made) -> None:
    folders = (made(seed=SEEN), made(seed=RAISES), made(seed=SEEN))
    assert RunJob(folders, execute)() == "ok; failed; ok"
    assert [record(folder).attempt for folder in folders] == [1, 2, 3]
    assert RunJob(folders, execute)() == "recorded before; recorded before; recorded before"


def test_a_run_whose_folder_is_gone_or_spoilt_keeps_no_other_from_running(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, spoilt, sound = made(), made(), made(seed=SEEN)
    shutil.rmtree(gone)
    (spoilt / "identity.json").write_text("{")
    said = RunJob((gone, spoilt, sound), execute)()
    assert re.fullmatch(r"not run: FileNotFoundError: .*; not run: JSONDecodeError: .*; ok", said)
    assert str(gone) in capsys.readouterr().out


def test_processes_of_one_job_are_pooled_a_killed_one_does_not_count(made: Made) -> None:
    folder = made("tests.launching.restarting.speed_or_killed", processes=3)
    assert RunJob((folder,), execute)() == "ok"
    found = record(folder)
    assert (found.metrics["speedup/processes"], found.details["interval"]) == (2, "2 processes")
    told = found.details["processes"]["each"]
    assert [each["outcome"] for each in told] == ["ok", "killed", "ok"]
    assert [each.get("ratio") for each in told] == [1.1, None, 1.3]


@pytest.mark.parametrize(
    ("seed", "timeout_s", "outcome", "reason"),
    [
        (RAISES, 240, "failed", "ZeroDivisionError: a bug"),
        (KILLED, 240, "killed", "SIGKILL"),
        (SLEEPS, 1, "timeout", "measure.timeout_s=1"),
    ],
)
def test_every_end_of_the_child_is_recorded(
    made: Made, seed: int, timeout_s: float, outcome: str, reason: str
) -> None:
    folder = made(seed=seed, timeout_s=timeout_s)
    assert RunJob((folder,), execute)() == outcome
    assert reason in record(folder).reason
    assert record(folder).environment["hardware"]["cpu"]


def test_what_is_recorded_is_not_run_again(made: Made) -> None:
    folder = made(seed=RAISES)
    RunJob((folder,), execute)()
    before = (folder / "record.json").read_bytes()
    assert RunJob((folder,), execute)() == "recorded before"
    assert (folder / "record.json").read_bytes() == before


def test_a_kill_that_the_kernel_counted_was_for_memory(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is this machine's to have or not; that it is believed is what is tested here."""
    counts = iter([3, 4])
    monkeypatch.setattr("src.processes.isolated.oom_kills", lambda: next(counts))
    folder = made(seed=KILLED)
    assert RunJob((folder,), execute)() == "oom"
    assert record(folder).remedy == "a larger gpu.slurm.mem_gib"


def test_other_code_than_the_snapshot_is_refused(made: Made, tmp_path: Path) -> None:
    folder = made(snapshot=str(tmp_path))
    assert RunJob((folder,), execute)() == "failed"
    assert f"imported {ROOT}, which is not the sweep's snapshot" in record(folder).reason
    assert RunJob((made(snapshot=str(ROOT)),), execute)() == "ok"


def test_other_versions_than_those_of_the_key_are_refused(made: Made) -> None:
    folder = made(versions=versions() | {"torch": "1.0", "protocol": "1"})
    assert RunJob((folder,), execute)() == "failed"
    found = record(folder)
    assert f"torch is {versions()['torch']} here and was 1.0 there" in found.reason
    assert "python is" not in found.reason
    assert "environment" in found.remedy


def test_a_configuration_that_this_code_does_not_take_is_recorded(made: Made) -> None:
    folder = made()
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("budget_s: ", "budget_of_old: 1\n  budget_s: ", 1))
    assert RunJob((folder,), execute)() == "failed"
    assert "budget_of_old" in record(folder).reason


def test_too_many_requeues(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    folder = made(max_requeues=2)
    assert RunJob((folder,), execute)() == "killed"
    assert "requeued" in record(folder).reason
    assert "max_requeues" in record(folder).remedy


def test_as_many_requeues_as_are_allowed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert RunJob((made(max_requeues=2),), execute)() == "ok"


def test_of_two_starts_the_later_records_and_the_earlier_leaves(made: Made, started: Any) -> None:
    """A node that no longer answers SLURM may still compute."""
    folder = made(HANGS_AT_FIRST)
    earlier = started(folder, SLURMD_NODENAME="h100-1", SLURM_JOB_ID="7")
    until(lambda: "hanging" in _log(earlier))
    [child] = children_of(folder)
    later = started(folder, SLURMD_NODENAME="h100-2", SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1")
    assert later.communicate(timeout=240)[0].splitlines()[-1] == "ok"
    assert "given up: job 7 runs it on h100-2" in earlier.communicate(timeout=240)[0]
    assert child not in children_of(folder)
    assert record(folder).details["restarts"] == {"number": 1, "reasons": [VANISHED]}
    assert len(list(folder.glob("record.json"))) == 1


def _log(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_sigterm_ends_the_child_and_a_job_of_several_runs_goes_on_there(made: Made, started: Any) -> None:
    folders = (made(seed=SEEN), made(HANGS_AT_FIRST), made(seed=SEEN))
    preempted = started(*folders, SLURM_JOB_ID="7")
    until(lambda: "hanging" in _log(preempted))
    [child] = children_of(folders[1])
    preempted.send_signal(signal.SIGTERM)
    until(lambda: (claim := read_claim(folders[1])) and claim.left)
    assert child not in children_of(folders[1])
    assert preempted.poll() is None  # SLURM requeues a job that it ends itself
    preempted.kill()
    assert [(folder / "record.json").exists() for folder in folders] == [True, False, False]
    assert read_claim(folders[2]) is None
    again = started(*folders, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1")
    assert again.communicate(timeout=240)[0].splitlines()[-1] == "recorded before; ok; ok"
    assert record(folders[1]).details["restarts"] == {"number": 1, "reasons": [TERMINATED]}
    assert "restarts" not in record(folders[2]).details


def test_the_first_reason_to_leave_stands(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM sends SIGTERM to a job that is requeued at its time limit."""
    folder = made()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert claims.take(folder, claims.Claim.of_this_process())
    RunJob((folder,), execute).checkpoint()
    claims.leave(folder, TERMINATED)
    later = claims.take(folder, claims.Claim.of_this_process(), sleep=lambda _: None)
    assert later is not None
    assert later.reasons() == [SIGNALLED]


def test_sigterm_without_slurm_is_the_end(made: Made, started: Any) -> None:
    folder = made(HANGS_AT_FIRST)
    stopped = started(folder)
    until(lambda: "hanging" in _log(stopped))
    stopped.send_signal(signal.SIGTERM)
    assert stopped.communicate(timeout=240)[0].splitlines()[-1] == "killed"
    assert "SIGTERM" in record(folder).reason


@pytest.mark.parametrize(("max_num_timeout", "outcome"), [(1, "ok"), (0, "timeout")])
def test_submitit_sends_a_run_again_at_its_time_limit(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_num_timeout: int, outcome: str
) -> None:
    """On submitit's own executor for this machine: SIGUSR2, checkpoint, the same folder again.

    The signal is sent here, once the run is on: submitit's comes after so many seconds, started or not. Of a job of
    less than ten minutes submitit takes any for its time limit.
    """
    monkeypatch.chdir(ROOT)
    folder = made(HANGS_AT_FIRST)
    executor = submitit.LocalExecutor(tmp_path / "submitit", max_num_timeout=max_num_timeout)
    executor.update_parameters(timeout_min=9)
    job = executor.submit(RunJob((folder,), execute))
    until(lambda: job.paths.stdout.exists() and "hanging" in job.paths.stdout.read_text())
    [on_the_node] = psutil.Process(int(job.job_id)).children()
    on_the_node.send_signal(signal.SIGUSR2)
    assert job.result() == outcome
    found = record(folder)
    if outcome == "ok":
        assert found.details["restarts"] == {"number": 1, "reasons": [SIGNALLED]}
    else:
        assert "time limit" in found.reason
        assert "time_min" in found.remedy
    assert not children_of(folder)


def test_a_signal_whose_error_is_swallowed_ends_the_run_too(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit raises in the middle of whatever is on; logging of another signal has caught it, and told it."""
    monkeypatch.setattr(isolated, "_WATCH_S", 0.2)
    folders = made(HANGS_AT_FIRST), made()
    job = RunJob(folders, execute)

    def told() -> None:
        until(lambda: children_of(folders[0]))
        job.checkpoint()  # all that is left of the signal

    thread = Thread(target=told)
    thread.start()
    assert job() == "timeout"
    thread.join()
    assert (
        "not done at the job's time limit (it was signalled, and not sent again)" in record(folders[0]).reason
    )
    assert not children_of(folders[0])
    assert not (folders[1] / "record.json").exists()


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"]),
        FileNotFoundError(2, "No such file or directory", "scontrol"),
    ],
)
def test_a_job_that_cannot_be_requeued_is_out_of_time_and_ends(
    made: Made, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In a container SLURM's commands may be missing; submitit calls one in its handler of SIGUSR2."""
    folders = made(), made()
    job = RunJob(folders, execute)

    def told(*_: Any) -> None:
        job.checkpoint()
        raise error

    monkeypatch.setattr(node, "run_processes", told)
    assert job() == "timeout"
    found = record(folders[0])
    assert "not done at the job's time limit (it could not be requeued: " in found.reason
    assert "scontrol" in found.reason
    assert "max_num_timeout" in found.remedy
    assert not (folders[1] / "record.json").exists()


@pytest.mark.parametrize(
    ("ending", "waits"),
    [
        (Ending(EndedBy.SIGNAL, code=-15), True),
        (Ending(EndedBy.EXIT, code=255), True),  # the fork server had the signal first
        (Ending(EndedBy.EXIT, code=3), False),
    ],
)
def test_what_may_have_been_sent_to_the_whole_job_is_waited_for(
    made: Made, monkeypatch: pytest.MonkeyPatch, ending: Ending, waits: bool
) -> None:
    """SIGTERM comes in this very moment: then SLURM may start the job again, and no record is written."""
    slept: list[float] = []
    monkeypatch.setattr(node.time, "sleep", slept.append)
    monkeypatch.setattr(node.Preloaded, "run", lambda *_, **__: ending)
    assert RunJob((made(),), execute)() == "killed"
    assert (node._SAME_SIGNAL_S in slept) == waits


def test_the_jobs_process_imports_no_torch(made: Made) -> None:
    code = "import sys, src.jobs.node.run, src.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_claim_that_cannot_be_read_is_no_others(made: Made) -> None:
    folder = made()
    claim = claims.Claim.of_this_process({"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"})
    assert claim.job == "9_2"
    (folder / "claim.json").write_text("{")
    claims.check_claim(folder, claim)
    (folder / "claim.json").write_text(json.dumps({"unknown": 1}))
    claims.check_claim(folder, claim)
