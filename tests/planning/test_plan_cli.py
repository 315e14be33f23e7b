"""`plan=true` on the command line: real Hydra processes; nothing is launched, nothing is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


def section(text: str, title: str) -> list[str]:
    """The rows of a table, without its head."""
    return text.partition(f"\n{title}")[2].split("\n\n")[0].splitlines()[2:]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    outputs = tmp_path_factory.mktemp("plan") / "outputs"
    done = run(
        "-m", "model=flux-dev,flux-tiny", "gpu=h100,rtx4090,cpu", "quant=int8wo,float8dq,mxfp8", "batch=1,4",
        "plan=true", f"outputs={outputs}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return outputs, done.stdout


def test_the_matrix_is_printed_and_nothing_is_launched(planned: tuple[Path, str]) -> None:
    outputs, text = planned
    assert not outputs.exists()
    assert text.startswith("plan: 36 runs; nothing was launched")
    assert "\x1b" not in text
    axes = {row.split()[0]: row.split()[1:] for row in section(text, "Axes")[:-1]}
    assert axes["gpu"] == ["3", "h100", "rtx4090", "cpu"]
    assert axes["quant"] == ["3", "int8wo", "float8dq", "mxfp8"]
    assert "compile=regional" in section(text, "Axes")[-1]


def test_groups_add_up_and_say_who_told(planned: tuple[Path, str]) -> None:
    groups = {row.split()[0]: row for row in section(planned[1], "By GPU")}
    assert {name: int(row.split()[1]) for name, row in groups.items()} == {
        "h100": 12,
        "rtx4090": 12,
        "cpu": 12,
    }
    assert "79.1" in groups["h100"]
    assert "conf/gpu/h100.yaml" in groups["h100"]
    assert "this machine" in groups["cpu"]
    for row in groups.values():
        fates = re.findall(r"(\d+) (?:will run|likely oom|unsupported|done|repeated)", row)
        assert sum(map(int, fates)) == 12


def test_runs_and_reasons_are_foretold(planned: tuple[Path, str]) -> None:
    _, text = planned
    assert len(section(text, "Runs")) == 36
    said = section(text, "Why not")
    assert any("rtx4090" in row and re.search(r"\d GiB of 23.6", row) for row in said)
    assert any("mxfp8 needs compute capability >= 10.0; this is NVIDIA H100" in row for row in said)
    assert any("float8dq needs a cuda device" in row and "cpu" in row for row in said)
    assert "gpu=h100, rtx4090: not on this machine" in text
    assert "device hours in all" in text
    assert "by a guess from measure.budget_s" in text


def test_a_single_run_is_planned_too_by_any_launcher(tmp_path: Path) -> None:
    for mode in ([], ["-m", "hydra/launcher=basic"]):
        done = run("model=linear", "plan=true", "gpu=cpu", f"outputs={tmp_path / 'none'}", *mode)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("plan: 1 run; nothing was launched")
    assert not (tmp_path / "none").exists()


def test_a_wrong_value_is_one_line(tmp_path: Path) -> None:
    done = run("plan=maybe", f"outputs={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: plan=maybe: ")


def test_list_foretells_for_a_card_that_is_not_here() -> None:
    done = run("--list", "gpu=b200")
    assert (done.returncode, done.stderr) == (0, "")
    head, _, *rows = done.stdout.splitlines()
    assert (
        head
        == "NVIDIA B200, bfloat16 (dtype=auto); foretold from conf/gpu/b200.yaml: this machine does not have it"
    )
    listed = {row.split()[0]: row for row in rows}
    assert re.search(r" ok( |$)", listed["mxfp8"])
    assert "compute capability < 10.0; this is NVIDIA B200" in listed["float8dq_2to4"]
