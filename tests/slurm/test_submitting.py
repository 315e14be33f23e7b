"""Jobs sent by the backend to a real cluster: where they land, what they see, and what SLURM refuses."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from src.config.errors import ConfigError
from src.config.schema.cluster import SlurmRequest
from src.jobs.backend import UNKNOWN, JobState
from src.slurm.backend import SlurmBackend, check_available, find_by_name, max_array_size, states
from tests.slurm.cluster import Cluster, lacking
from tests.slurm.jobs import hoard, report, wait
from tests.slurm.settings import ACCOUNT
from tests.slurm.waiting import accounted, sbatch, wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slurm
HERE: dict[str, Any] = {"chdir": str(ROOT)}
SMALL = {"mem_gib": 0.5, "time_min": 5}


@pytest.fixture
def here(cluster: Cluster) -> Iterator[Cluster]:
    with cluster.here():
        yield cluster


def seen(folder: Path, number: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(number)]


def test_an_array_lands_on_its_partition_with_what_it_asked_for(here: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "slurm"
    request = SlurmRequest(
        partition="a100", gres="gpu:a100:1", cpus_per_task=3, account=ACCOUNT,
        setup=["export QUANTPAY_SETUP=done"], extra=HERE | {"nice": 1}, **SMALL,
    )  # fmt: skip
    jobs = [partial(report, tmp_path / f"{index}.json", index) for index in range(3)]
    ids = SlurmBackend(array_parallelism=2).submit("qp-test-0", request, jobs, folder)
    array = ids[0].partition("_")[0]
    assert ids == [f"{array}_{index}" for index in range(3)]
    assert find_by_name("qp-test-0") == array
    assert {state.state for state in wait_for(here, ids).values()} == {"COMPLETED"}
    for index, each in enumerate(seen(tmp_path, 3)):
        assert each["value"] == index
        assert each["SLURMD_NODENAME"].startswith("a100-")
        assert each["CUDA_VISIBLE_DEVICES"] in ("0", "1")
        assert (each["cwd"], each["SLURM_JOB_NAME"]) == (str(ROOT), "qp-test-0")
        assert (each["SLURM_CPUS_PER_TASK"], each["QUANTPAY_SETUP"]) == ("3", "done")
        assert (folder / f"{ids[index]}_0_log.out").exists()


def test_a_single_job_is_no_array_and_nothing_of_an_outer_job_reaches_it(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver runs in a job itself: that job's variables would contradict, or replace, what is asked for."""
    leaking = here.call("srun", "--mem-per-cpu=100", "--partition=a100", "env")
    for name, _, value in (line.partition("=") for line in leaking.splitlines()):
        if name.startswith("SLURM") and name != "SLURM_CONF":
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SBATCH_PARTITION", "a100")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    request = SlurmRequest(partition="h100", gres="gpu:h100:2", extra=HERE, **SMALL)
    ids = SlurmBackend().submit("qp-test-one", request, [partial(report, tmp_path / "0.json", 7)], tmp_path)
    assert ids == [find_by_name("qp-test-one")]
    assert wait_for(here, ids)[ids[0]].state == "COMPLETED", (tmp_path / f"{ids[0]}_0_log.out").read_text()
    found = seen(tmp_path, 1)[0]
    assert found["SLURMD_NODENAME"].startswith("h100-")
    assert found["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_the_exit_code_tells_a_signal_from_an_exit_status(here: Cluster, tmp_path: Path) -> None:
    """Also: more memory than was asked for; without control groups SLURM kills, and calls it FAILED."""
    jobs = [
        partial(os._exit, 3),
        partial(signal.raise_signal, signal.SIGKILL),
        partial(signal.raise_signal, signal.SIGSEGV),
        partial(hoard, 600 * 2**20),
    ]
    request = SlurmRequest(partition="all", extra=HERE, mem_gib=0.2)
    ids = SlurmBackend().submit("qp-test-ends", request, jobs, tmp_path)
    ended = wait_for(here, ids)
    assert {state.state for state in ended.values()} == {"FAILED"}
    # While the accounting has not heard of a step, its signal stands as an exit status: told alike (states.py).
    either = [{"3:0"}, {"0:9", "9:0"}, {"0:11", "11:0"}, {"0:9", "9:0"}]
    for found in (ended, accounted(here, ids)):
        assert all(found[job].exit_code in codes for job, codes in zip(ids, either, strict=True)), found
    assert "exceeded memory limit" in (tmp_path / f"{ids[3]}_0_log.out").read_text()


REFUSED = {
    "gpu.slurm.partition=nowhere": (
        {"partition": "nowhere"},
        ["invalid partition", "accepted: a100, all, h100"],
    ),
    "gpu.slurm.partition=h100 gpu.slurm.gres=gpu:h100:3": (
        {"partition": "h100", "gres": "gpu:h100:3"},
        ["not available", "sinfo -o"],
    ),
    "gpu.slurm.partition=a100 gpu.slurm.gres=gpu:h100:1": (
        {"partition": "a100", "gres": "gpu:h100:1"},
        ["sinfo"],
    ),
    "gpu.slurm.gres=tpu:1": ({"gres": "tpu:1"}, ["gres", "sinfo -o '%P %G'"]),
    "gpu.slurm.constraint=v100": ({"constraint": "v100"}, ["eature", "sinfo -o '%P %f'"]),
    "gpu.slurm.mem_gib=500": ({"mem_gib": 500.0}, ["sinfo -o"]),
    "gpu.slurm.account=nobody": ({"account": "nobody"}, ["nvalid account", "sacctmgr"]),
    "gpu.slurm.qos=gold": ({"qos": "gold"}, ["nvalid qos", "sacctmgr"]),
}


@pytest.mark.parametrize("shown", REFUSED)
def test_a_refusal_names_the_key_slurms_words_and_what_to_do(
    here: Cluster, tmp_path: Path, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, words = REFUSED[shown]
    jobs = [partial(wait, 0), partial(wait, 0)]
    with pytest.raises(ConfigError) as refused:
        SlurmBackend().submit("qp-test-refused", SlurmRequest(**asked), jobs, tmp_path)
    said = str(refused.value)
    assert said.startswith(f"{shown} ")
    assert "\n" not in said
    for word in ["SLURM says", *words]:
        assert word in said
    assert find_by_name("qp-test-refused") is None
    assert capfd.readouterr() == ("", "")


def test_what_sbatch_sent_although_it_says_that_it_failed_is_taken_back(
    here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load sbatch gives up waiting for an answer to what slurmctld has accepted."""
    lost = tmp_path / "bin" / "sbatch"
    lost.parent.mkdir()
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    lost.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@"\necho "{said}" >&2\nexit 1\n')
    lost.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lost.parent}:{os.environ['PATH']}")
    jobs = [partial(wait, 600), partial(wait, 600)]
    with pytest.raises(ConfigError, match=r"Socket timed out on send/recv operation; `scontrol ping` says"):
        SlurmBackend().submit("qp-test-lost", SlurmRequest(extra=HERE, mem_gib=0.1), jobs, tmp_path)
    sent = find_by_name("qp-test-lost")
    assert sent is not None
    ended = wait_for(here, [f"{sent}_0", f"{sent}_1"])
    assert {state.state for state in ended.values()} == {"CANCELLED"}


def test_jobs_that_only_an_accounting_out_of_reach_may_know_are_left_out(
    here: Cluster, tmp_path: Path
) -> None:
    settings = here.conf.read_text()
    away = re.sub("AccountingStoragePort=.*", "AccountingStoragePort=9", settings)
    (tmp_path / "slurm.conf").write_text(away)
    job = sbatch(here, "exit 4")
    wait_for(here, [job])
    assert states(["99999999"]) == {"99999999": JobState(UNKNOWN)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
        found = states([job, "99999999"])
    assert [(name, state.exit_code) for name, state in found.items()] == [(job, "4:0")]


def test_the_size_of_arrays_is_the_clusters_own(here: Cluster) -> None:
    check_available()
    assert max_array_size() == here.max_array_size


def test_a_machine_without_slurm_and_one_whose_controller_is_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no sbatch, .* on PATH; .*hydra/launcher=local"):
        check_available()
    with pytest.raises(ConfigError, match="hydra/launcher=slurm: scontrol: No such file"):
        max_array_size()
    assert states(["1_0", "2"]) == {}


def test_jobs_of_a_controller_that_does_not_answer_are_left_out(tmp_path: Path) -> None:
    if lacking(accounting=False):
        pytest.skip("SLURM is not installed here")
    down = Cluster(tmp_path / "down")
    down.start(accounting=False, owned=True)
    down.stop()
    down.conf.write_text(down.conf.read_text().replace("MessageTimeout=20", "MessageTimeout=2"))
    with down.here():
        assert states(["1_0", "2"]) == {}
        with pytest.raises(ConfigError, match=r"hydra/launcher=slurm: .*; `scontrol ping`"):
            check_available()
