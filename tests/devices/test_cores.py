"""The host's cores, dealt out to devices."""

import os
from pathlib import Path

import pytest

from src.config.schema.cluster import SlurmRequest
from src.devices.cores import dealt_cpus
from src.workstation.pool import DevicePool
from tests.launching.jobs import Affinity
from tests.workstation.test_pool import until


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two packages of 4 cores with 2 threads each: CPUs 0-3 and 8-11, 4-7 and 12-15, as Linux numbers them."""
    for cpu in range(16):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
        (topology / "physical_package_id").write_text(f"{cpu % 8 // 4}\n")
    return tmp_path


def test_each_device_gets_whole_cores_of_its_own(machine: Path) -> None:
    names = ["0", "1", "2", "3"]
    assert dealt_cpus(names, names, range(16), machine) == {
        "0": {0, 8, 1, 9},
        "1": {2, 10, 3, 11},
        "2": {4, 12, 5, 13},
        "3": {6, 14, 7, 15},
    }


def test_a_device_has_the_same_cores_whichever_others_take_part(machine: Path) -> None:
    present = ["0", "1", "2", "3"]
    among_all = dealt_cpus(present, present, range(16), machine)
    assert dealt_cpus(["2"], present, range(16), machine) == {"2": among_all["2"]}


def test_devices_by_other_names_share_all_cores(machine: Path) -> None:
    dealt = dealt_cpus(["GPU-a", "GPU-b"], ["0", "1", "2", "3"], range(16), machine)
    assert {name: len(cpus) for name, cpus in dealt.items()} == {"GPU-a": 8, "GPU-b": 8}
    assert not dealt["GPU-a"] & dealt["GPU-b"]


def test_only_what_this_process_may_use_is_dealt(machine: Path) -> None:
    assert dealt_cpus(["0", "1"], ["0", "1"], {1, 2, 10}, machine) == {"0": {1}, "1": {2, 10}}


def test_no_core_is_left_over(machine: Path) -> None:
    names = ["0", "1", "2"]
    dealt = dealt_cpus(names, names, range(16), machine)
    assert sorted(cpu for cpus in dealt.values() for cpu in cpus) == list(range(16))


def test_fewer_cores_than_devices_are_everyone_s(machine: Path) -> None:
    names = [str(index) for index in range(9)]
    assert set(dealt_cpus(names, names, range(16), machine).values()) == {frozenset(range(16))}


def test_a_machine_that_does_not_tell_its_cores(tmp_path: Path) -> None:
    assert dealt_cpus(["0", "1"], ["0", "1"], {0, 1}, tmp_path) == {"0": {0}, "1": {1}}


def test_a_job_runs_on_its_device_s_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    allowed = os.sched_getaffinity(0)
    given, path = max(allowed), tmp_path / "cpus"
    pool = DevicePool(tmp_path, ["0"], cpus={"0": {given}})
    jobs = pool.submit("qp-s-0", SlurmRequest(), [Affinity(path)], tmp_path / "sweeps/s/submitit_local")
    until(lambda: pool.states(jobs)[jobs[0]].state == "COMPLETED")
    assert path.read_text() == f"[{given}]"
    assert os.sched_getaffinity(0) == allowed
