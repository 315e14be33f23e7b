"""Keys of the cluster launcher and of what a GPU asks of SLURM: mistakes are one line, before anything is sent."""

import sys

import pytest

from src.app.application import main
from tests.app.conftest import Call

MISTAKES = {
    "hydra.launcher.partitoin=h100": ["hydra.launcher.partitoin", "did you mean partition?"],
    "hydra.launcher.array_parallelism=0": ["hydra.launcher.array_parallelism=0", "at least 1"],
    "hydra.launcher.poll_s=often": ["hydra.launcher.poll_s", "'often' is not a number"],
    "hydra.launcher.runs_per_job=some": ["hydra.launcher.runs_per_job=some", "auto, or a whole number"],
    "hydra.launcher.poll_s=0": ["hydra.launcher.poll_s=0", "at least 0.2"],
    "hydra.launcher.wait=maybe": ["hydra.launcher.wait", "neither true nor false"],
    "hydra.launcher.setup=module": ["hydra.launcher.setup", "a list is wanted"],
    "hydra.launcher.time_min=0": ["hydra.launcher.time_min=0", "at least 1"],
    "hydra.launcher.partition=a,b": ["hydra.launcher.partition=a,b", "single value"],
    "+hydra.launcher.extra.array=0-9": ["hydra.launcher.extra.array=0-9", "--array itself"],
    "+gpu.slurm.extra.cpus_per_task=4": ["gpu.slurm.extra.cpus_per_task=4", "give gpu.slurm.cpus_per_task="],
    "+gpu.slurm.extra.exclude=[a,b]": ["gpu.slurm.extra.exclude", "text or a number"],
    "gpu.slurm.mem_gib=0": ["gpu.slurm.mem_gib=0", "at least"],
    "gpu.slurm.memory=4": ["gpu.slurm.memory", "unknown key", "mem_gib"],
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line(call: Call, override: str) -> None:
    called = call("-m", "hydra/launcher=slurm", "gpu=h100", override)
    assert called.status == 2
    assert called.err.count("\n") == 1, called.err
    for word in MISTAKES[override]:
        assert word in called.err


def test_without_slurm_it_says_so(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    called = call("gpu=h100", "hydra/launcher=slurm", f"outputs={tmp_path}/out")
    assert called.status == 2
    assert called.err.count("\n") == 1
    assert "sbatch" in called.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("launcher", ["slurm", "submitit_local"])
def test_only_measurements_are_sent(
    launcher: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["collect.py"])
    asked = ["-m", f"hydra/launcher={launcher}", "sweep=a,b"]
    assert main("collect", lambda _: pytest.fail("was called"), asked, prog="python -m src.collect") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"hydra/launcher={launcher}: sends measurements" in said
    assert "hydra-submitit-launcher" in said


def test_the_local_launcher_runs_what_measures_nothing_as_hydra_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["collect.py"])
    seen: list[str] = []
    asked = ["-m", "hydra/launcher=local", "sweep=a,b"]
    assert (
        main("collect", lambda config: seen.append(config.sweep) or 1, asked, prog="python -m src.collect")
        == 1
    )
    assert seen == ["a", "b"]
