"""The device's state: this CPU for real, NVML by a fake that this machine can't have; tests/gpu has the real one."""

import os
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from src.devices import monitor as monitors
from src.devices.device import GIB, Device
from src.devices.monitor import Blind, CpuMonitor, NvmlMonitor, open_monitor

CUDA = Device(kind="cuda", name="a GPU", memory_gib=80.0)


@pytest.fixture
def nvml(monkeypatch):
    """NVML of one device, as a namespace whose values the test sets."""
    state = SimpleNamespace(
        sm=1980, memory=2619, power_mw=650_000, celsius=61, reasons=0, millijoules=5_000, processes=[]
    )
    answers = {
        "nvmlDeviceGetClockInfo": lambda _, kind: state.sm if kind == pynvml.NVML_CLOCK_SM else state.memory,
        "nvmlDeviceGetPowerUsage": lambda _: state.power_mw,
        "nvmlDeviceGetTemperature": lambda *_: state.celsius,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _: state.reasons,
        "nvmlDeviceGetTotalEnergyConsumption": lambda _: state.millijoules,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: state.processes,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return state


def process(pid, gib):
    return SimpleNamespace(pid=pid, usedGpuMemory=gib and gib * GIB)


def unsupported(*_):
    raise pynvml.NVMLError_NotSupported(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_a_reading_of_a_gpu(nvml):
    reading = NvmlMonitor("handle").read()
    assert reading.values == {
        "sm_mhz": 1980,
        "memory_mhz": 2619,
        "power_w": 650.0,
        "temperature_c": 61,
        "power_capped": 0.0,
    }
    assert reading.slowdowns == ()
    assert NvmlMonitor("handle").energy_j() == 5.0


@pytest.mark.parametrize(
    ("reason", "slowdowns", "capped"),
    [
        (pynvml.nvmlClocksEventReasonGpuIdle, (), 0.0),
        (pynvml.nvmlClocksEventReasonSwPowerCap, (), 1.0),  # how a large matmul runs in steady state
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, ("HW thermal slowdown",), 0.0),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, ("SW thermal slowdown",), 0.0),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, ("HW power brake",), 0.0),
        (
            pynvml.nvmlClocksEventReasonHwSlowdown | pynvml.nvmlClocksEventReasonSwPowerCap,
            ("HW slowdown",),
            1.0,
        ),
    ],
)
def test_which_reasons_void_a_round(nvml, reason, slowdowns, capped):
    nvml.reasons = reason
    reading = NvmlMonitor("handle").read()
    assert (reading.slowdowns, reading.values["power_capped"]) == (slowdowns, capped)


@pytest.mark.usefixtures("nvml")
def test_what_a_device_does_not_tell_is_left_out(monkeypatch):
    for name in ("PowerUsage", "TotalEnergyConsumption", "CurrentClocksEventReasons"):
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", unsupported)
    monitor = NvmlMonitor("handle")
    assert set(monitor.read().values) == {"sm_mhz", "memory_mhz", "temperature_c"}
    assert monitor.energy_j() is None


def test_a_device_that_vanishes_is_an_error(nvml, monkeypatch):
    monitor = NvmlMonitor("handle")

    def lost(*_):
        raise pynvml.NVMLError_GpuIsLost(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lost)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        monitor.read()


@pytest.mark.parametrize(
    ("listed", "others"),
    [
        ([], []),
        ([(os.getpid(), 3)], []),
        ([(os.getpid(), 3), (4242, 2)], ["pid 4242 (2.00 GiB)"]),
        ([(os.getpid(), 3), (4242, None)], ["pid 4242"]),
        ([(999_999_999, 3)], []),  # a container: the one listed is this process under the host's pid
        ([(999_999_999, 3), (999_999_998, 2)], ["1 processes of another namespace"]),
    ],
)
def test_other_processes_on_the_device(nvml, listed, others):
    nvml.processes = [process(*entry) for entry in listed]
    assert NvmlMonitor("handle").others() == others


@pytest.mark.parametrize(
    ("listed", "others"),
    [
        ([os.getpid(), 4242, 4243], []),
        ([os.getpid(), 4243, 4244], ["pid 4244 (1.00 GiB)"]),
        ([900_001, 900_002, 900_003], []),  # a container: this process and both compilers
        ([900_001, 900_002], []),  # one of them does not hold the device yet
        ([900_001, 900_002, 900_003, 900_004], ["1 processes of another namespace"]),
    ],
)
def test_a_sweep_s_own_compilers_are_no_others(nvml, monkeypatch, listed, others):
    nvml.processes = [process(pid, 1) for pid in listed]
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(monitors, "nvml_handle", lambda *_: "handle")
    monkeypatch.setattr(monitors.torch.cuda, "get_device_properties", lambda _: None)
    compilers = [4242, 4243]
    monitor = open_monitor(CUDA, idle=lambda: compilers)
    assert monitor.others() == others
    compilers.clear()  # they have ended: what is listed still is somebody else's
    assert len(monitor.others()) == (1 if listed[0] > 900_000 else 2)


SLICE = "5b8a4d0e-7c1f-5d0a-9a53-0b7d1c9e2f11"
A_SLICE = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"


@pytest.mark.parametrize(
    ("name", "uuid", "chosen", "seen"),
    [
        (A_SLICE, SLICE, None, ["pid 4242 (1.00 GiB)"]),
        (A_SLICE, "", f"MIG-{SLICE},MIG-another", ["pid 4242 (1.00 GiB)"]),
        ("a GPU whose driver gives slices its own name", SLICE, None, ["pid 4242 (1.00 GiB)"]),
        (A_SLICE, "", "0", []),  # one of them, but which?
    ],
)
def test_a_slice_is_not_taken_for_the_whole_device(nvml, monkeypatch, name, uuid, chosen, seen):
    """The device's energy, its power and its processes are those of other slices too."""

    def by_uuid(asked):
        if asked == f"MIG-{SLICE}":
            return "slice"
        raise pynvml.NVMLError_NotFound(pynvml.NVML_ERROR_NOT_FOUND)

    own, foreign = process(os.getpid(), 3), process(4242, 1)
    held = {"slice": [own, foreign], "parent": [own, foreign, process(4243, 9)]}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByPciBusId", lambda _: "parent")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", held.__getitem__)
    properties = SimpleNamespace(name=name, uuid=uuid, pci_domain_id=0, pci_bus_id=1, pci_device_id=0)
    monkeypatch.setattr(monitors.torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    nvml.reasons = pynvml.nvmlClocksEventReasonHwSlowdown
    monitor = open_monitor(CUDA)
    assert monitor.others() == seen
    assert monitor.energy_j() is None
    assert monitor.read() == monitors.Reading({"sm_mhz": 1980.0, "memory_mhz": 2619.0, "temperature_c": 61.0})


def test_where_nvml_is_missing_the_monitor_says_so(monkeypatch):
    def missing():
        raise pynvml.NVMLError_LibraryNotFound(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(monitors.pynvml, "nvmlInit", missing)
    monitor = open_monitor(CUDA)
    assert isinstance(monitor, Blind)
    assert monitor.blind == "NVML: NVML Shared Library Not Found"
    assert (monitor.read().values, monitor.others(), monitor.energy_j()) == ({}, [], None)


def test_this_cpu(cpu):
    monitor = open_monitor(cpu, cpus=[0])
    assert monitor.blind == ""
    told = (
        Path("/sys/devices/system/cpu/cpu0/cpufreq").exists()
        or "cpu MHz" in Path("/proc/cpuinfo").read_text()
    )
    assert (monitor.read().values.get("cpu_mhz", 0) > 100) == told


def test_clocks_are_of_the_cpus_that_compute(tmp_path):
    for cpu, khz in enumerate([1_000_000, 2_000_000, 3_000_000]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    assert CpuMonitor([1, 2], tmp_path).read().values == {"cpu_mhz": 2500.0}


def test_cpuinfo_is_not_read_at_every_round(tmp_path):
    (tmp_path / "proc").mkdir()
    cpuinfo = tmp_path / "proc/cpuinfo"
    cpuinfo.write_text("cpu MHz\t\t: 2000.0\ncpu MHz\t\t: 3000.0\n")
    monitor = CpuMonitor([0], tmp_path)
    assert monitor.read().values == {"cpu_mhz": 2500.0}
    cpuinfo.write_text("cpu MHz\t\t: 1000.0\n")
    assert monitor.read().values == {"cpu_mhz": 2500.0}
    assert CpuMonitor([0], tmp_path / "nowhere").read().values == {}
