"""`plan=true` on the command line: nothing is launched, nothing is written."""

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from src.run import main
from tests.conftest import Called, as_before


def section(text: str, title: str) -> list[str]:
    """The rows of a table, without its head."""
    return text.partition(f"\n{title}")[2].split("\n\n")[0].splitlines()[2:]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What one command printed, and the outputs that it named: of two blocks, and too much for 24 GB by its batch."""
    outputs = tmp_path_factory.mktemp("plan") / "outputs"
    command = [
        "run.py", "-m", "model=flux-dev,flux-tiny", "gpu=h100,rtx4090,cpu", "quant=int8wo,float8dq,mxfp8",
        "model.factory.num_layers=1", "model.factory.num_single_layers=1", "batch=64", "plan=true",
        f"outputs={outputs}",
    ]  # fmt: skip
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, as_before(), redirect_stdout(out), redirect_stderr(out):
        patch.setattr(sys, "argv", command)
        assert main() == 0, out.getvalue()
    return outputs, out.getvalue()


def test_the_matrix_is_printed_and_nothing_is_launched(planned: tuple[Path, str]) -> None:
    outputs, text = planned
    assert not outputs.exists()
    assert text.startswith("plan: 18 runs; nothing was launched")
    assert "\x1b" not in text
    axes = {row.split()[0]: row.split()[1:] for row in section(text, "Axes")}
    assert axes["gpu"] == ["3", "h100", "rtx4090", "cpu"]
    assert axes["quant"] == ["3", "int8wo", "float8dq", "mxfp8"]
    assert "compile=regional" in " ".join(section(text, "Axes")).split()
    assert max(map(len, section(text, "Axes") + section(text, "Why not"))) <= 160


def test_groups_add_up_and_say_who_told(planned: tuple[Path, str]) -> None:
    groups = {row.split()[0]: row for row in section(planned[1], "By GPU")}
    assert {name: int(row.split()[1]) for name, row in groups.items()} == {
        "h100": 6,
        "rtx4090": 6,
        "cpu": 6,
    }
    assert "79.1" in groups["h100"]
    assert "conf/gpu/h100.yaml" in groups["h100"]
    assert "this machine" in groups["cpu"]
    for row in groups.values():
        fates = re.findall(r"(\d+) (?:will run|likely oom|likely timeout|unsupported|done|repeated)", row)
        assert sum(map(int, fates)) == 6


def test_runs_and_reasons_are_predicted(planned: tuple[Path, str]) -> None:
    _, text = planned
    assert len(section(text, "Runs")) == 18
    said = section(text, "Why not")
    assert any("rtx4090" in row and re.search(r"\d GiB of 23.6", row) for row in said)
    assert any("mxfp8 needs compute capability >= 10.0; this is NVIDIA H100" in row for row in said)
    assert any("float8dq needs a cuda device" in row and "cpu" in row for row in said)
    assert "gpu=h100, rtx4090: not on this machine" in text
    assert re.search(r"device hours in all, \d+% of them rounds, one run after another: about ", text)
    time = {row.partition("  ")[0]: row for row in section(text, "Time")}
    assert {"rounds", "compile again", "all else"} <= time.keys()
    assert time["compile again"].endswith("measure.warm_compile=false")
    assert "by a guess from measure.budget_s" in text


@pytest.mark.parametrize("mode", [[], ["-m", "hydra/launcher=basic"]], ids=["single", "another launcher"])
def test_a_single_run_is_planned_too_by_any_launcher(
    tmp_path: Path, called: Callable[..., Called], mode: list[str]
) -> None:
    done = called("model=linear", "plan=true", "gpu=cpu", f"outputs={tmp_path / 'none'}", *mode)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("plan: 1 run; nothing was launched")
    assert not (tmp_path / "none").exists()


def test_a_wrong_value_is_one_line(tmp_path: Path, called: Callable[..., Called]) -> None:
    done = called("plan=maybe", f"outputs={tmp_path}")
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: plan=maybe: ")
