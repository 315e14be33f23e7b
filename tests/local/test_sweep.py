"""The command itself: real runs, real kernels, a real MLflow database.

`command` starts it as a process of its own. `called` calls it in this process, where all tests' runs are forked from
one server, whose imports take more than the runs do.
"""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.collect import collect
from src.config.schema.root import CollectConf, TrackingConf
from src.processes.isolated import EndedBy, Preloaded
from src.records.record import Record
from tests.composing import Compose
from tests.conftest import SMALL_LINEAR, Called, identity
from tests.launching import jobs

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "tests" / "launching" / "conf"
SMALL = (
    "model=linear",
    "model.dims={M:4,K:64,N:64}",
    "gpu.threads=1",  # a second one would wait for the first, busily
    "compile=none",
    "measure.budget_s=0.1",
    "measure.max_warmup_s=0",
    "measure.min_pairs=8",
    "measure.bootstrap_samples=200",
    "measure.cache=warm",
    "measure.ceilings=false",
)


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"src.{module}", *arguments]


def call(module: str, *arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(module, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
    )


def started(asked: list[str], word: str) -> subprocess.Popen[str]:
    """The command as a process of its own, once it has said a word on stderr."""
    driver = subprocess.Popen(
        asked,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a suite started in the background ignores SIGINT, and its children would
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert driver.stderr is not None
    for line in driver.stderr:
        if word in line:
            break
    return driver


def records(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(outputs.glob("runs/*/*/record.json"))]


def published(outputs: Path) -> Counter[str]:
    with sqlite3.connect(outputs / "mlflow.db") as database:
        rows = database.execute("select value from tags where key = 'outcome'").fetchall()
    return Counter(row[0] for row in rows)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of three schemes, one of which this machine may not be able to run."""
    outputs = tmp_path_factory.mktemp("swept")
    return outputs, call("run", "-m", "quant=int8wo,float8dq,none", "gpu=cpu", *SMALL, f"outputs={outputs}")


def test_every_run_has_its_record_its_artifacts_and_its_mlflow_run(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    outputs, done = swept
    assert done.returncode == 0, done.stderr
    by_quant = {record["axes"]["quant"]: record for record in records(outputs)}
    assert {quant: record["outcome"] for quant, record in by_quant.items()} == {
        "int8wo": "ok",
        "float8dq": "unsupported",
        "none": "ok",
    }
    assert "8.9" in by_quant["float8dq"]["reason"]
    assert by_quant["float8dq"]["remedy"]
    metrics = by_quant["int8wo"]["metrics"]
    assert metrics["speedup/ci_low"] <= metrics["speedup/ratio"] <= metrics["speedup/ci_high"]
    assert metrics["quality/sqnr_db"] > 30
    assert by_quant["int8wo"]["shape"] == {"M": 4, "K": 64, "N": 64}
    folder = next(outputs.glob(f"runs/{by_quant['int8wo']['run_key']}/001"))
    for name in ("config.yaml", "layers.json", "rounds.json", "run.log"):
        assert (folder / name).exists()
    assert published(outputs) == {"ok": 2, "unsupported": 1}


@pytest.mark.usefixtures("fork_server")
def test_what_is_done_is_skipped_a_broken_record_is_measured_again_rerun_measures_all(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, called: Callable[..., Called]
) -> None:
    outputs = Path(shutil.copytree(swept[0], tmp_path / "outputs"))
    before = {record["run_key"]: record for record in records(outputs)}
    broken = next(key for key, record in before.items() if record["outcome"] == "unsupported")
    (outputs / "runs" / broken / "001" / "record.json").write_text('{"schema_version": 1, "run')
    again = called("-m", "quant=float8dq,none", "gpu=cpu", *SMALL, f"outputs={outputs}")
    assert again.status == 0, again.stderr
    assert "record.json: not a readable record" in again.stderr
    assert (outputs / "runs" / broken / "002" / "record.json").exists()
    crowded = sum(record["details"].get("withheld", False) for record in before.values())
    assert again.stderr.count("measured before") >= 1 - crowded
    rerun = called("quant=none", "gpu=cpu", "rerun=true", *SMALL, f"outputs={outputs}")
    assert rerun.status == 0, rerun.stderr
    unquantized = [r for r in outputs.glob("runs/*/*/record.json") if '"quant": "none"' in r.read_text()]
    assert len(unquantized) >= 2


@pytest.mark.usefixtures("fork_server")
def test_every_fate_of_a_run_is_an_outcome_and_the_sweep_goes_on(
    outputs: Path, called: Callable[..., Called]
) -> None:
    """Also: a scheme, a model, a device and a task that only a folder outside `conf` knows."""
    own = ("--config-dir", str(CONF), "model=my-sd3", "quant=my-int8", "gpu=my-cpu", "task=fates")
    fixed = [each for each in SMALL if not each.startswith("model")]
    done = called("-m", *own, *fixed, "seed=1,2,3,5,0", f"outputs={outputs}")
    assert done.status == 1, done.stderr
    assert "ZeroDivisionError: a bug; " in done.stderr
    assert "/run.log says more" in done.stderr
    hung = called(*own, *fixed, "seed=4", "measure.timeout_s=2", f"outputs={outputs}")
    assert hung.status == 1, hung.stderr
    by_seed = {
        json.loads((path.parent / "record.json").read_text())["reason"]: path.parent
        for path in outputs.glob("runs/*/001/config.yaml")
    }
    assert len(by_seed) == 6
    outcomes = Counter(record["outcome"] for record in records(outputs))
    assert outcomes == {"failed": 1, "killed": 2, "timeout": 1, "oom": 1, "ok": 1}
    assert all(record["environment"]["hardware"]["cpu"]["cpus"] > 0 for record in records(outputs))
    reasons = " / ".join(by_seed)
    for expected in ("ZeroDivisionError: a bug", "SIGSEGV", "SIGKILL", "measure.timeout_s=2"):
        assert expected in reasons
    ok = next(record for record in records(outputs) if record["outcome"] == "ok")
    assert ok["axes"]["model"] == "my-sd3"
    assert ok["device"]["threads"] == 1
    assert ok["metrics"]["quantize/layers"] > 10
    assert sum(published(outputs).values()) == 6


@pytest.mark.usefixtures("fork_server")
def test_no_two_runs_of_a_sweep_read_alike_and_their_ends_are_summed_up_on_any_terminal(
    outputs: Path, called: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU float8dq ends before a model is built; the terminal knows ASCII only."""
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    axes = ("resolution=64,128", "dtype=bfloat16,float32", "quant.layers.min_side=0,64")
    fixed = ("quant=float8dq", "gpu=cpu", "compile=none", "measure.ceilings=false", f"outputs={outputs}")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        status = called("-m", *axes, *fixed).status
    terminal.flush()
    assert isinstance(terminal.buffer, io.BytesIO)
    told = terminal.buffer.getvalue().decode("ascii").splitlines()
    assert status == 0
    begun = [line.partition("] ")[2].partition(" (about")[0] for line in told if "(about" in line]
    assert len({*begun}) == len(begun) == 8
    assert "flux-tiny float8dq none batch=1 resolution=64 dtype=float32 quant.layers.min_side=64" in begun
    with sqlite3.connect(outputs / "mlflow.db") as database:
        runs = "select value from tags where key = 'mlflow.runName'"
        names = {name for (name,) in database.execute(runs) if name.startswith("float8dq")}
    assert len(names) == 8
    assert "float8dq none b1 flux-tiny 128px bfloat16 cpu quant.layers.min_side=0" in names
    (ended,) = [
        line for line in told if line.startswith("  8 unsupported (float8dq)") or " unsupported (" in line
    ][:1]
    assert " -> a GPU with float8" in ended


@pytest.mark.usefixtures("fork_server")
def test_thread_counts_are_devices_of_their_own(tmp_path: Path, called: Callable[..., Called]) -> None:
    threads = ("quant=int8wo", "gpu=cpu", "gpu.threads=1,2", "tracking=none")
    done = called("-m", *SMALL, *threads, f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    found = {record["run_key"]: record["device"]["threads"] for record in records(tmp_path)}
    assert sorted(found.values()) == [1, 2]


def test_ctrl_c_keeps_what_is_done_marks_what_is_on_and_leaves_no_process(outputs: Path) -> None:
    own = ("--config-dir", str(CONF), "task=fates", *SMALL, "seed=0,4", f"outputs={outputs}")
    driver = started(command("run", "-m", *own), "hanging")
    assert driver.stderr is not None
    os.kill(driver.pid, signal.SIGINT)
    rest = driver.stderr.read()
    assert driver.wait(240) == 130
    assert "Traceback" not in rest
    assert "stopped: the same command goes on" in rest
    assert Counter(record["outcome"] for record in records(outputs)) == {"ok": 1, "killed": 1}
    assert published(outputs) == {"ok": 1, "killed": 1}
    mine = f"outputs={outputs}".encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists() and mine in p.read_bytes()]


@pytest.mark.usefixtures("fork_server")
def test_a_tracker_that_is_down_costs_a_message_and_collect_publishes_later(
    outputs: Path, called: Callable[..., Called]
) -> None:
    down = ("tracking=server", "tracking.uri=http://127.0.0.1:9")
    started = time.monotonic()
    done = called("quant=int8wo", *SMALL, *down, f"outputs={outputs}")
    assert done.status == 0, done.stderr
    assert "src.collect" in done.stderr
    assert time.monotonic() - started < 240
    assert len(records(outputs)) == 1
    tracking = TrackingConf("sqlite", True, f"sqlite:///{outputs}/mlflow.db")
    assert collect(CollectConf(tracking=tracking, outputs=str(outputs))) == 0
    assert published(outputs) == {"ok": 1}


def test_outputs_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("run", "quant=int8wo", *SMALL, f"outputs={tmp_path}/file/outputs")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"outputs={tmp_path}/file/outputs" in done.stderr


def test_parallel_runs_share_an_empty_compile_cache(
    fork_server: Preloaded, compose: Compose, tmp_path: Path
) -> None:
    """Two processes compile the same graphs at once into one cache; a third finds them all there.

    The cache is below a folder with a name that a shell would split.
    """
    cache = tmp_path / "größe #1 100% it's" / "inductor"

    def executed(*seeds: int) -> list[Record]:
        runs = []
        for seed in seeds:
            cfg = compose(
                *SMALL_LINEAR, "quant=int8wo", "compile=default", "measure.warm_compile=false", f"seed={seed}"
            )
            folder = tmp_path / f"{seed}"
            folder.mkdir()
            runs.append((cfg, identity(cfg), folder))
        given = (cache, runs)
        ending = fork_server.run(jobs.execute_at_once, given, log=tmp_path / "run.log", timeout_s=240)
        assert ending.by is EndedBy.ITSELF, (tmp_path / "run.log").read_text()
        return list(ending.answer)

    found = [*executed(0, 1), *executed(2)]
    assert [record.outcome for record in found] == ["ok"] * 3
    assert len({record.metrics["quality/sqnr_db"] > 30 for record in found}) == 1
    assert list(cache.rglob("*.so"))
    assert found[2].metrics["compile/cache_misses"] == 0
    assert found[2].metrics["compile/cache_hits"] >= 2  # three where another dtype is faster: AVX2 alone


def test_a_disk_that_takes_no_more_is_told_before_anything_runs(tmp_path: Path) -> None:
    """In a process that may write no byte: as on a full disk, empty files can still be made."""
    script = (
        "import resource, signal; from pathlib import Path; from src.local.server import prepared\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"prepared(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert f"outputs={tmp_path}: cannot be written (File too large); give a folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fork_server")
def test_a_device_that_cannot_be_imported_is_one_line(tmp_path: Path, called: Callable[..., Called]) -> None:
    device = ("gpu=cpu", "gpu._target_=no_such_module.Device", "tracking=none")
    done = called("quant=int8wo", *SMALL, *device, f"outputs={tmp_path}")
    assert done.status == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line == "error: gpu._target_=no_such_module.Device: no package no_such_module is installed"


@pytest.mark.usefixtures("fork_server")
def test_one_of_three_processes_that_dies_is_named_and_the_others_are_pooled(
    outputs: Path, called: Callable[..., Called]
) -> None:
    task = "task._target_=tests.launching.tasks.dies_in_the_second_process"
    done = called("quant=int8wo", "gpu=cpu", *SMALL, task, "measure.processes=3", f"outputs={outputs}")
    assert done.status == 0, done.stderr
    (record,) = records(outputs)
    assert (record["outcome"], record["metrics"]["speedup/processes"]) == ("ok", 2)
    told = record["details"]["processes"]
    assert [each["outcome"] for each in told["each"]] == ["ok", "killed", "ok"]
    assert "SIGKILL" in told["each"][1]["reason"]
    assert record["details"]["interval"] == "2 processes"
    assert "process 3 of 3: measure" in done.stderr
    folder = next(outputs.glob("runs/*/001"))
    assert all((folder / name).exists() for name in ("rounds.json", "layers.json", "run.log"))
    assert {p.parent.name for p in folder.glob("processes/*/record.json")} == {"1", "2", "3"}
    pids = {json.loads(p.read_text())["environment"]["pid"] for p in folder.glob("processes/*/record.json")}
    assert len(pids) == 3
    with sqlite3.connect(outputs / "mlflow.db") as database:
        (tag,) = database.execute("select value from tags where key = 'processes'").fetchone()
    assert len(json.loads(tag)) == 2
