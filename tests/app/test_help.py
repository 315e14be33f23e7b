"""The help: complete, readable, quick."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest

from src.config.paths import ROOT
from src.config.schema.root import RootConf
from tests.app.conftest import Call
from tests.conftest import canonical


def test_help_has_groups_keys_examples_and_statuses(call: Call) -> None:
    text = call("--help").out
    assert [field.name for field in fields(RootConf) if not re.search(rf"^  {field.name} ", text, re.M)] == []
    for group in ("model", "quant", "layers", "compile", "gpu", "measure", "tracking", "task"):
        options = set(canonical(group))
        listed = re.search(rf"^  {group} +((.|\n)*?)(?=^  \S)", text, re.M)
        assert listed is not None
        assert options == {word.rstrip("*") for word in listed[1].split()}
    assert "flux-tiny*" in text
    assert text.count("python -m src.run") >= 5
    assert [status for status in ("  0  ", "  1  ", "  2  ", "130  ") if f"\n{status}" not in text] == []
    assert not re.search(r"_schema|\$[A-Z]|\$\{", text)
    assert max(map(len, text.splitlines())) <= 120


def test_help_is_as_wide_as_the_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = " ".join(call("--help").out.split())
    monkeypatch.setenv("COLUMNS", "80")
    narrow = call("--help").out
    assert [line for line in narrow.splitlines() if len(line) > 80 and "python -m" not in line] == []
    assert " ".join(narrow.split()) == whole
    assert re.search(
        r"^  quant\.where  where .* streamed \(on the\n {15}device, layer by layer\)", narrow, re.M
    )
    example = "-m quant=float8_e4m3_row,float8dq batch=1,4 hydra/launcher=submitit_local"
    assert f"\n  python -m src.run {example}\n" in narrow
    described = call("--help", "quant").out
    assert max(map(len, described.splitlines())) <= 80


def test_help_shows_what_the_command_line_chooses(call: Call) -> None:
    text = call("--help", "quant=none", "batch=8").out
    assert "none*" in text
    assert "samples per call [8]" in text


@pytest.mark.parametrize(
    "group", ["model", "quant", "layers", "compile", "gpu", "measure", "tracking", "sweeps", "task"]
)
def test_help_describes_a_groups_options(call: Call, group: str) -> None:
    lines = call("--help", group).out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        p.stem for p in (ROOT / "conf" / group).glob("*.yaml")
    )
    if group != "task":
        assert [line for line in lines if len(line.split()) < 2] == []


def test_hydras_own_help(call: Call) -> None:
    text = call("--hydra-help").out
    assert "hydra/launcher" in text


def test_versions(call: Call) -> None:
    lines = call("--version").out.splitlines()
    assert f"torch {version('torch')}" in lines
    assert {line.split()[0] for line in lines} >= {"quantpay", "torch", "torchao", "diffusers"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["--cfg", "job"], ["batch=0"], ["quant=nope"]])
def test_nothing_heavy_is_imported_to_answer(argv: list[str]) -> None:
    script = (
        "import sys; from src.run import main; main(); "
        "print([m for m in ('torch', 'mlflow', 'diffusers', 'pandas') if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command", ["quantpay", "quantpay-analyze", "quantpay-collect", "quantpay-calibrate"]
)
def test_the_installed_commands_help_from_any_folder(command: str, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / command
    if not program.exists():
        pytest.skip("not installed: pip install -e .")
    done = subprocess.run([program, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: {command} " in done.stdout


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = f"{sys.executable} -m src.run --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_flags_are_named_as_they_are_typed(call: Call) -> None:
    assert "--hydra-help" in call("--hydra-help", "-m").err
