"""`plan=true` with `hydra/launcher=slurm`: no SLURM is asked, none need be there."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Called
from tests.planning.test_plan_cli import section


def test_a_cluster_sweep_is_planned_from_the_cards_data(
    tmp_path: Path, called: Callable[..., Called]
) -> None:
    done = called(
        "-m", "hydra/launcher=slurm", "model=linear", "gpu=h100,a100", "quant=int8wo,float8dq", "plan=true",
        "hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=8", f"outputs={tmp_path / 'none'}",
    )  # fmt: skip
    assert (done.status, done.stderr) == (0, "")
    assert not (tmp_path / "none").exists()
    groups = {row.split()[0]: row for row in section(done.stdout, "By GPU")}
    assert "2 will run" in groups["h100"]
    assert "1 will run, 1 unsupported" in groups["a100"]
    assert "partition=gpu gres=gpu:h100:1" in groups["h100"]
    assert "8 at once of each GPU" in done.stdout
    assert "not on this machine" not in done.stdout
