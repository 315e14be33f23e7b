"""Runs and multiruns of the application: what is run, with which status, and from which configs."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from src.app.application import main
from src.app.arguments import parse
from src.checks.validation import validated
from src.config.errors import ConfigError
from src.config.paths import ROOT
from src.config.schema import root
from src.launching.preparation import writable
from tests.app.conftest import Call

SWEEP = """# @package _global_
# python -m src.run sweeps=mine
defaults:
  - override /model: linear

target: linear
hydra:
  sweeper:
    params:
      quant: int8wo,none
      model.dims.M: 1,4
"""

SWEEPS = sorted(path for path in (ROOT / "sweeps").glob("*.yaml") if not path.stem.startswith("schemes_"))


@pytest.fixture
def sweep(tmp_path: Path) -> list[str]:
    """The command line that runs a sweep file of its own."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(SWEEP)
    return ["-cd", str(tmp_path), "sweeps=mine"]


def test_a_run_gets_the_composed_configuration(call: Call) -> None:
    result = call("quant=float8dq", "batch=4", "model=linear")
    assert result.status == 0
    assert [(run.quant.name, run.batch, run.model.name, run.resolution) for run in result.runs] == [
        ("float8dq", 4, "linear", 0)
    ]


def test_a_multirun_is_the_product_wherever_its_flag_stands(call: Call) -> None:
    axes = ["quant=int8wo,none", "batch=1,2"]
    first, between, last = (parse([*axes[:at], "-m", *axes[at:]], "x") for at in range(3))
    assert first == between == last
    result = call(axes[0], "-m", axes[1])
    assert [(run.quant.name, run.batch) for run in result.runs] == [
        ("int8wo", 1),
        ("int8wo", 2),
        ("none", 1),
        ("none", 2),
    ]


def test_a_folder_that_was_deleted_meanwhile_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = call("plan=true")
    assert (result.status, result.err) == (
        2,
        "error: the current folder was deleted; cd into one that is there\n",
    )


def test_a_folder_whose_name_is_no_text_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"latin gr\xf6\xdfe")
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"outputs=.*gr.+e: the name is not UTF-8; give another folder"):
        writable(folder)
    monkeypatch.chdir(folder)
    result = call("plan=true")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "its name is not UTF-8; cd into another" in result.err


def test_a_file_that_is_not_utf_8_is_named_by_whoever_chooses_it(call: Call, tmp_path: Path) -> None:
    """As an old editor saves it."""
    for group in ("model", "quant"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_bytes(
            "defaults: [linear]\ndescription: größe\n".encode("latin-1")
        )
    for chosen in ("model=mine", "quant=mine"):
        result = call("-cd", str(tmp_path), chosen)
        assert (result.status, result.err.count("\n")) == (2, 1)
        assert "mine.yaml: cannot be read ('utf-8' codec can't decode byte" in result.err
    assert "did you mean int8wo?" in call("-cd", str(tmp_path), "quant=int8w").err
    assert call("-cd", str(tmp_path), "-m", "quant=glob(int8wo)").status == 0


def test_home_in_a_file_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# @package _global_\noutputs: ~/runs\n")
    result = call("-cd", str(tmp_path), "sweeps=mine")
    assert result.err.startswith(
        "error: outputs=~/runs: ~ is your home on a command line alone; give the whole"
    )


def test_a_multirun_may_delete_and_range(call: Call) -> None:
    result = call("-m", "quant=autoquant", "~quant.candidates.int4wo", "batch=range(1,3)")
    assert [run.batch for run in result.runs] == [1, 2]
    assert all("int4wo" not in run.quant.candidates for run in result.runs)


def test_a_key_of_a_swept_option_can_be_set(call: Call) -> None:
    result = call("-m", "model=linear,linear", "model.dims.M=4")
    assert [run.model.dims["M"] for run in result.runs] == [4, 4]


def test_the_status_is_the_tasks(call: Call) -> None:
    assert call("batch=3", status=lambda cfg: cfg.batch).status == 3


def test_the_status_of_a_multirun_is_the_greatest_of_its_runs(call: Call) -> None:
    result = call("-m", "batch=1,3,2", status=lambda cfg: cfg.batch - 1)
    assert (result.status, len(result.runs)) == (2, 3)


def test_batches_are_launched_in_turn_and_all_count(call: Call) -> None:
    result = call("-m", "batch=1,2,3", "hydra.sweeper.max_batch_size=2", status=lambda cfg: cfg.batch == 2)
    assert (result.status, [run.batch for run in result.runs]) == (1, [1, 2, 3])


def test_a_mistake_in_a_later_batch_stops_all(call: Call) -> None:
    result = call("-m", "batch=1,2,0", "hydra.sweeper.max_batch_size=1")
    assert (result.status, result.runs) == (2, [])


@pytest.mark.parametrize("more", [[], ["-m"], ["hydra.mode=MULTIRUN"]])
def test_a_sweep_file_is_a_multirun_with_or_without_the_flag(
    call: Call, sweep: list[str], more: list[str]
) -> None:
    result = call(*sweep, *more)
    assert [(run.quant.name, run.model.dims["M"], run.target) for run in result.runs] == [
        ("int8wo", 1, "linear"),
        ("int8wo", 4, "linear"),
        ("none", 1, "linear"),
        ("none", 4, "linear"),
    ]


def test_the_command_line_wins_over_a_sweep_file(call: Call, sweep: list[str]) -> None:
    result = call(*sweep, "model.dims.M=8", "batch=2")
    assert [(run.quant.name, run.model.dims["M"], run.batch) for run in result.runs] == [
        ("int8wo", 8, 2),
        ("none", 8, 2),
    ]


@pytest.mark.parametrize("single", ["-r", "hydra.mode=RUN"])
def test_a_sweep_file_can_be_run_once_on_demand(call: Call, sweep: list[str], single: str) -> None:
    assert [run.model.name for run in call(*sweep, single).runs] == ["linear"]


def test_a_key_of_a_model_that_the_sweep_file_chooses_by_a_parameter_can_be_set(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "p.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {model: linear, quant: 'none,int8wo'}}}\n"
    )
    assert len(call("-cd", str(tmp_path), "sweeps=p", "model.dims.M=4").runs) == 2


def test_a_sweep_file_without_its_header_is_told_what_it_lacks(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "bare.yaml").write_text(SWEEP.split("\n", 1)[1])
    result = call("-cd", str(tmp_path), "sweeps=bare")
    assert (result.status, "# @package _global_" in result.err) == (2, True)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_of_the_project_is_right(
    call: Call, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those over every scheme: test_sweeps.py. Of an axis of rising numbers both ends are tried."""
    done = JobReturn(status=JobStatus.COMPLETED, _return_value=0)
    launcher = Mock(launch=Mock(side_effect=lambda jobs, **_: [done] * len(jobs)))
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, **_: launcher)
    axes = re.findall(r" (\S+): (\d+),[\d,]+,(\d+)\n", path.read_text())
    ends = [f"{key}={least},{most}" for key, least, most in axes]
    result = call(f"sweeps={path.stem}", f"outputs={tmp_path}", *ends)
    assert result.status == 0
    assert all(line.startswith("search: ") for line in result.err.splitlines())
    assert len(launcher.launch.call_args.args[0]) > 1


def test_a_config_folder_adds_options(call: Call, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [linear]\nname: mine\n")
    result = call("-cd", str(tmp_path), "-m", "model=mine,linear")
    assert [run.model.name for run in result.runs] == ["mine", "linear"]


def test_nothing_is_written_beside_the_outputs(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("batch=2").status == 0
    assert call("-m", "batch=1,2").status == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [["batch=1"], ["-m", "batch=1,2"]])
def test_a_bug_is_not_taken_for_a_mistake(call: Call, argv: list[str]) -> None:
    def bug(_: object) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        call(*argv, status=bug)


@pytest.mark.parametrize("argv", [["batch=1"], ["-m", "batch=1,2"]])
def test_an_interrupt_is_130(call: Call, argv: list[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    result = call(*argv, status=interrupted)
    assert (result.status, result.err, len(result.runs)) == (130, "", 1)


def test_a_full_disk_is_no_bug(call: Call) -> None:
    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/record.json")

    result = call("batch=1", status=full)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert result.err.startswith("error: runs/a/record.json: cannot be written (No space left on device); ")


def test_a_plan_that_nobody_reads_to_its_end_is_no_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def prints(_: object) -> int:
        print("told", flush=True)
        return 0

    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert main("config", prints, ["batch=1"], prog="x") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["predict=nope.csv"],
            "predict=nope.csv: no such file; give a CSV file with the columns M, K, N, quant",
        ),
        (["predict="], "predict=: no such file"),
        (["device=h100"], "device=h100: is for predict=FILE.csv"),
        (["predict=model", "device=h100"], "predict=model takes gpu=NAME"),
        (["model=flux-dev"], "a run's axes with predict=model"),
        (["outputs="], "outputs=: no name"),
    ],
)
def test_a_mistake_in_an_analysis_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("analyze", lambda conf: int(validated(conf, root.AnalyzeConf) is None), words, prog="x") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "kind", "overrides"),
    [
        ("analyze", root.AnalyzeConf, ["margin=0.1"]),
        ("compare", root.CompareConf, ["before=x", "after=y"]),
        ("collect", root.CollectConf, ["sweep=x"]),
    ],
)
def test_the_other_commands_have_their_own_schema(
    name: str, kind: type, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def task(config: DictConfig) -> int:
        seen.append(validated(config, kind))
        return 0

    assert main(name, task, overrides, prog=name) == 0
    assert type(seen[0]) is kind
    assert main(name, task, ["batch=1"], prog=name) == 2
    assert main(name, task, ["quant=int8wo"], prog=name) == 2
    errors = capsys.readouterr().err.splitlines()
    assert Counter(line.split()[0] for line in errors) == {"error:": 2}


def test_the_configuration_is_printed_as_plain_yaml(call: Call) -> None:
    result = call("--cfg", "job", "batch=3", "--resolve")
    printed = yaml.safe_load(result.out)
    assert (result.status, result.err, result.runs) == (0, "", [])
    assert (printed["batch"], printed["resolution"], "hydra" in printed) == (3, 256, False)
    assert yaml.safe_load(call("--cfg", "job", "-p", "quant").out)["name"] == "int8wo"


@pytest.mark.parametrize("what", ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"])
def test_information_is_printed(call: Call, what: str) -> None:
    assert call("--info", what).status == 0


def test_the_command_works_from_any_folder_and_ends_with_its_status(tmp_path: Path) -> None:
    script = "import sys; from src.app.application import main; sys.exit(main('config', lambda c: c.batch, prog='x'))"
    done = subprocess.run([sys.executable, "-c", script, "batch=7"], cwd=tmp_path, timeout=240)
    assert done.returncode == 7


def test_the_real_command_tells_a_mistake_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.run", "-m", "quant=int8wo", "batch=1,0", f"outputs={tmp_path}/out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: batch=0: must be between 1 and 65536 (in the run quant=int8wo batch=0 " + (
        f"outputs={tmp_path}/out)\n"
    )
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_a_process_without_a_traceback(tmp_path: Path) -> None:
    script = (
        "import sys, time; from src.app.application import main\n"
        "sys.exit(main('config', lambda c: print('started', flush=True) or time.sleep(60), prog='x'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite started in the background ignores SIGINT, and its children would
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (130, "")


def test_serializing_is_eager_unless_a_compile_mode_is_asked_for(call: Call) -> None:
    (run,) = call("task=serialize").runs
    assert (run.task.name, run.task.compares, run.compile.name) == ("serialize", False, "none")
    assert call("compile=default", "task=serialize").runs[0].compile.name == "default"
    swept = call("-m", "task=latency,serialize", "quant=int8wo").runs
    assert [(run.task.name, run.compile.name) for run in swept] == [
        ("latency", "regional"),
        ("serialize", "none"),
    ]
    assert "serialize.format=zip" in call("serialize.format=zip").err


def test_an_option_of_ones_own_wins_over_the_one_of_that_name_in_conf(call: Call, tmp_path: Path) -> None:
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "h100.yaml").write_text("name: h100\nslurm: {partition: ours}\n")
    gpu = call("-cd", str(tmp_path), "gpu=h100").runs[0].gpu
    assert (gpu.slurm.partition, gpu.match) == ("ours", "")


@pytest.mark.parametrize(
    "swept", ["outputs=/a #1, 100%", "outputs=a,b", "tracking=sqlite,none", "tracking.uri=a,b"]
)
def test_what_all_runs_of_a_sweep_share_has_one_value(call: Call, swept: str) -> None:
    result = call("-m", "batch=1,2", swept)
    assert (result.status, result.runs) == (2, [])
    assert ": a sweep has one " in result.err
