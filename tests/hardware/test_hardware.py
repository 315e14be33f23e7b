"""The CPU from folders that a test writes and from this machine; a CUDA device from fakes of torch and NVML."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from src.hardware import nvidia
from src.hardware.host import cpu_hardware, last_level_cache_mib
from src.hardware.nvidia import cuda_hardware, nvidia_driver

MIB = 2**20
CPUINFO = """processor\t: 0
model name\t: A  CPU
microcode\t: 0x2a
flags\t\t: fpu vme {flag} sse

processor\t: 1
model name\t: another
"""
UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"


def write(root, **files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path):
    """Two sockets of two cores of two threads; a L2 per core, a L3 per socket."""
    cpus = "sys/devices/system/cpu"
    for cpu in range(8):
        core, socket = cpu // 2, cpu // 4
        here = f"{cpus}/cpu{cpu}"
        write(
            tmp_path,
            **{f"{here}/topology/physical_package_id": socket, f"{here}/topology/core_id": core % 2},
        )
        shared = f"{2 * core}-{2 * core + 1}"
        levels = {
            "index0": ("1", "Data", "48K", shared),
            "index1": ("1", "Instruction", "32K", shared),
            "index2": ("2", "Unified", "2048K", shared),
            "index3": ("3", "Unified", "32M", f"{4 * socket}-{4 * socket + 3}"),
        }
        for index, values in levels.items():
            names = ("level", "type", "size", "shared_cpu_list")
            write(
                tmp_path,
                **{f"{here}/cache/{index}/{n}": v for n, v in zip(names, values, strict=True)},
            )
    write(
        tmp_path,
        **{
            "proc/cpuinfo": CPUINFO.format(flag="hypervisor"),
            "proc/meminfo": "MemTotal:       1024 kB\nMemFree: 1 kB",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
            "sys/devices/system/node/node0/x": "",
            "sys/devices/system/node/node1/x": "",
            f"{cpus}/cpu0/cpufreq/cpuinfo_max_freq": "3700000",
            f"{cpus}/cpu0/cpufreq/scaling_min_freq": "<unknown>",
            f"{cpus}/cpu0/cpufreq/scaling_governor": "powersave",
            f"{cpus}/intel_pstate/no_turbo": "1",
            "sys/fs/cgroup/cpu.max": "150000 100000",
        },
    )
    return tmp_path


def test_what_a_machine_says(machine):
    assert cpu_hardware(machine) == {
        "model": "A CPU",
        "sockets": 2,
        "cores": 4,
        "threads_per_core": 2,
        "cpus": 8,
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "cpu_quota": 1.5,
        "caches": {
            "l1d": {"bytes": 48 * 1024, "instances": 4},
            "l2": {"bytes": 2 * MIB, "instances": 4},
            "l3": {"bytes": 32 * MIB, "instances": 2},
        },
        "numa_nodes": 2,
        "frequency_khz": {"cpuinfo_max": 3700000},
        "governor": "powersave",
        "boost": False,
        "transparent_huge_pages": "madvise",
        "hypervisor": True,
        "memory_bytes": MIB,
        "microcode": "0x2a",
    }


@pytest.mark.parametrize(("allowed", "mib"), [({0, 1}, 32), ({0, 1, 2, 3}, 32), ({3, 4}, 64)])
def test_the_cache_is_that_of_the_cpus_that_may_be_used(machine, monkeypatch, allowed, mib):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert last_level_cache_mib(machine) == mib


def test_no_hypervisor_and_a_boost_switch(machine):
    write(
        machine,
        **{"proc/cpuinfo": CPUINFO.format(flag="x"), "sys/devices/system/cpu/cpufreq/boost": "1"},
    )
    write(machine, **{"sys/fs/cgroup/cpu.max": "max 100000"})
    found = cpu_hardware(machine)
    assert (found["hypervisor"], found["boost"]) == (False, True)
    assert "cpu_quota" not in found


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        ({"": "max 100000", "slurm/job_1": "max 100000"}, None),
        ({"slurm": "400000 100000", "slurm/job_1": "250000 100000"}, 2.5),
        ({"slurm": "50000 100000", "slurm/job_1": "max 100000"}, 0.5),
        ({"another": "50000 100000"}, None),
    ],
)
def test_the_quota_of_the_groups_above(tmp_path, limits, quota):
    write(tmp_path, **{"proc/self/cgroup": "1:cpu:/x\n0::/slurm/job_1"})
    write(tmp_path, **{f"sys/fs/cgroup/{group}/cpu.max": text for group, text in limits.items()})
    assert cpu_hardware(tmp_path).get("cpu_quota") == quota


def test_what_a_machine_does_not_say_is_left_out(tmp_path):
    found = cpu_hardware(tmp_path)
    assert set(found) == {"model", "cpus", "allowed_cpus"}
    assert found["cpus"] == os.cpu_count()
    assert last_level_cache_mib(tmp_path) is None


def test_this_machine():
    found = cpu_hardware()
    assert found["cpus"] == os.cpu_count()
    assert 0 < found["allowed_cpus"] <= found["cpus"]
    assert found["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for cache in found.get("caches", {}).values():
        assert cache["bytes"] > 0
        assert cache["instances"] <= found["cpus"]


# ---- NVIDIA


def test_the_driver_from_its_kernel_module(tmp_path):
    assert nvidia_driver(tmp_path) == "none"
    write(tmp_path, **{"sys/module/nvidia/version": "580.65.06"})
    assert nvidia_driver(tmp_path) == "580.65.06"


class NVMLError(Exception):
    pass


def not_supported(*_):
    raise NVMLError("Not Supported")


def fake_nvml(log, **replaced):
    """A module like pynvml with one device; `log` hears which handle was asked for."""

    def handle(kind):
        def get(name):
            log.append((kind, name))
            return "the handle"

        return get

    functions = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: log.append("shutdown"),
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13020,
        "nvmlDeviceGetHandleByUUID": handle("uuid"),
        "nvmlDeviceGetHandleByPciBusId": handle("bus"),
        "nvmlDeviceGetMaxClockInfo": lambda _h, kind: {1: 1980, 2: 3201}[kind],
        "nvmlDeviceGetApplicationsClock": lambda _h, _kind: 1980,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _h: 650000,
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda _h: 700000,
        "nvmlDeviceGetEccMode": lambda _h: [1, 1],
        "nvmlDeviceGetMigMode": lambda _h: [0, 1],
        "nvmlDeviceGetPersistenceMode": lambda _h: 1,
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda _h: 5,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda _h: 16,
        "nvmlDeviceGetNvLinkVersion": lambda _h, _link: 7,
        "nvmlDeviceGetNvLinkState": lambda _h, link: 1 if link < 18 else not_supported(),
        "nvmlDeviceGetVbiosVersion": lambda _h: "96.00",
    }
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_NVLINK_MAX_LINKS": 36, "NVMLError": NVMLError}
    return SimpleNamespace(**(functions | constants | replaced))


@pytest.fixture
def gpu(monkeypatch):
    """gpu(**replaced): torch and NVML show one device; returns the list of handles asked for."""

    def present(**replaced):
        log = []
        properties = SimpleNamespace(
            name="NVIDIA H200",
            major=9,
            minor=0,
            multi_processor_count=132,
            total_memory=140 * 2**30,
            L2_cache_size=50 * MIB,
            uuid=UUID,
            pci_domain_id=0,
            pci_bus_id=0x1A,
            pci_device_id=0,
        )
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(log, **replaced))
        return log

    return present


def test_what_a_gpu_says(gpu):
    log = gpu()
    assert cuda_hardware() == {
        "name": "NVIDIA H200",
        "compute_capability": "9.0",
        "multiprocessors": 132,
        "memory_bytes": 140 * 2**30,
        "l2_bytes": 50 * MIB,
        "uuid": UUID,
        "pci_bus_id": "00000000:1a:00.0",
        "driver_supports_cuda": "13.2",
        "max_sm_clock_mhz": 1980,
        "max_memory_clock_mhz": 3201,
        "application_sm_clock_mhz": 1980,
        "power_limit_w": 650.0,
        "power_limit_default_w": 700.0,
        "ecc": True,
        "mig": False,
        "persistence_mode": True,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "nvlink_version": 7,
        "nvlinks_active": 18,
        "vbios": "96.00",
    }
    assert log == [("uuid", f"GPU-{UUID}"), "shutdown"]


def test_the_names_of_all_cards(gpu):
    names = ["NVIDIA H200", "NVIDIA H100 80GB HBM3"]
    gpu(
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: names[handle],
    )
    assert nvidia.nvidia_names.__wrapped__() == tuple(names)
    gpu(nvmlInit=not_supported)
    assert nvidia.nvidia_names.__wrapped__() == ()


def test_the_bus_finds_what_the_uuid_does_not(gpu):
    log = gpu(nvmlDeviceGetHandleByUUID=not_supported)
    assert cuda_hardware()["power_limit_w"] == 650.0
    assert log == [("bus", "00000000:1a:00.0"), "shutdown"]


@pytest.mark.parametrize("query", sorted(nvidia._NVML_QUERIES))
def test_a_query_that_is_not_supported_costs_its_key_alone(gpu, query):
    names = [n for n in nvidia._NVML_QUERIES[query].__code__.co_names if n.startswith("nvml")]
    gpu(**dict.fromkeys(names or ["nvmlDeviceGetNvLinkState"], not_supported))
    found = cuda_hardware()
    assert found["left_out"][query] == "Not Supported"
    assert set(nvidia._NVML_QUERIES) == (set(found) | set(found["left_out"])) & set(nvidia._NVML_QUERIES)


@pytest.mark.parametrize(
    "broken",
    [
        {"nvmlInit": not_supported},
        {"nvmlDeviceGetHandleByUUID": not_supported, "nvmlDeviceGetHandleByPciBusId": not_supported},
    ],
)
def test_without_nvml_torch_still_says_what_it_knows(gpu, broken):
    gpu(**broken)
    found = cuda_hardware()
    assert found["multiprocessors"] == 132
    assert found["left_out"] == {"nvml": "Not Supported"}


def test_without_the_package(gpu, monkeypatch):
    gpu()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pynvml" in cuda_hardware()["left_out"]["nvml"]


def test_the_queries_are_nvmls():
    pynvml = pytest.importorskip("pynvml")
    asked = {name for query in nvidia._NVML_QUERIES.values() for name in query.__code__.co_names}
    functions = {name for name in asked if name.lower().startswith("nvml")} | {
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetHandleByPciBusId",
        "NVML_NVLINK_MAX_LINKS",
    }
    assert not [name for name in functions if not hasattr(pynvml, name)]
