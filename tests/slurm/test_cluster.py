"""The cluster of the tests is a real one: several nodes, GPUs told apart, and nothing is left of it."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.slurm import daemons
from tests.slurm.cluster import Cluster, ClusterError, abandoned, lacking
from tests.slurm.daemons import wait_until
from tests.slurm.settings import NODES

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slurm


def by_hand(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.slurm.cluster", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_the_gpus_of_a_node_are_told_apart_and_partitions_hold_their_kind(cluster: Cluster) -> None:
    wait_until(lambda: cluster.node_states() == dict.fromkeys(NODES, "idle"), "nodes are not idle")
    show = ("bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; sleep 1")
    both = cluster.call(
        "srun", "--partition=a100", "--nodelist=a100-1", "--ntasks=2", "--gpus-per-task=1", *show
    )
    assert both.split().count("a100-1") == 2
    one = cluster.call("srun", "--partition=h100", "--gres=gpu:h100:1", *show).split()
    assert (one[0].rpartition("-")[0], one[1]) == ("h100", "0")
    with pytest.raises(ClusterError, match="not available"):
        cluster.call("srun", "--partition=h100", "--gres=gpu:a100:1", "true")


def test_a_cluster_by_hand_beside_others_is_taken_down_whole(
    cluster_without_accounting: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "cluster"
    up = by_hand("up", folder, "--without-accounting")
    assert up.returncode == 0, up.stderr
    assert up.stdout.strip() == f"export SLURM_CONF={folder}/etc/slurm.conf"
    own = Cluster(folder)
    try:
        assert "runs there already" in by_hand("up", folder, "--without-accounting").stderr
        own.call("sbatch", "--output=/dev/null", "--wrap=sleep 600")
        started = [psutil.Process(int(daemon["pid"])) for daemon in own._daemons().values()]
        assert len(started) == 2 + len(NODES)
        assert by_hand("kill", folder, "a100-2").returncode == 0
        assert by_hand("start", folder, "a100-2").returncode == 0
        assert own.node_states()["a100-2"] == "idle"
    finally:
        down = by_hand("down", folder)
    assert down.returncode == 0, down.stderr
    assert not any(map(daemons.alive, own._daemons().values()))
    assert not daemons.of_jobs(own.conf)
    assert cluster_without_accounting.node_states().keys() == NODES.keys()


def test_what_a_killed_session_left_is_found_and_removed(tmp_path: Path) -> None:
    if lacking(accounting=False):
        pytest.skip("SLURM is not installed here")
    left = tmp_path / "left"
    script = (
        "import os, sys; from pathlib import Path; from tests.slurm.cluster import Cluster; "
        "Cluster(Path(sys.argv[1])).start(accounting=False, owned=True); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, left], cwd=ROOT, timeout=240, check=False)
    found = list(abandoned(tmp_path))
    assert [cluster.folder for cluster in found] == [left]
    running = list(left.joinpath("run").glob("*.pid"))
    assert running
    found[0].remove()
    assert not any(psutil.pid_exists(int(file.read_text())) for file in running if file.exists())
    assert list(left.iterdir()) == []


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    if lacking(accounting=False):
        pytest.skip("SLURM is not installed here")
    (tmp_path / "mine.txt").write_text("mine")
    refused = by_hand("up", tmp_path, "--without-accounting")
    assert refused.returncode == 1
    assert "holds other things" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
