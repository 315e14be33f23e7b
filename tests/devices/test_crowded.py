"""An out-of-memory is final only where the device was the run's alone; NVML is a fake."""

import os
from types import SimpleNamespace

import pynvml
import pytest

from src.devices import monitor as monitors
from src.devices.crowded import withhold_if_crowded
from src.devices.device import GIB, Device
from src.records.record import Outcome, Record

CUDA = Device(kind="cuda", name="a GPU", memory_gib=80.0)
SAID = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 512.00 MiB is "
    "free. Process 4242 has 2.00 GiB memory in use."
)


@pytest.fixture
def held(monkeypatch):
    """GiB of the device's memory by process id."""
    gib = {os.getpid(): 60}
    listed = lambda _: [  # noqa: E731
        SimpleNamespace(pid=pid, usedGpuMemory=each and each * GIB) for pid, each in gib.items()
    ]
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", listed)
    for query in (
        "ClockInfo",
        "PowerUsage",
        "Temperature",
        "CurrentClocksEventReasons",
        "TotalEnergyConsumption",
    ):
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{query}", lambda *_: 0)
    monkeypatch.setattr(monitors, "nvml_handle", lambda *_: "handle")
    monkeypatch.setattr(monitors, "nvml_slice", lambda *_: None)
    monkeypatch.setattr(monitors.torch.cuda, "get_device_properties", lambda _: None)
    return gib


def ended(outcome=Outcome.OOM, reason=SAID):
    return Record("key", 1, "sweep", {}, outcome, reason=reason, remedy="a smaller batch")


def test_an_oom_of_a_run_that_had_the_device_alone_is_final(held):
    record = ended()
    withhold_if_crowded(record, CUDA)
    assert (record.reason, record.details) == (SAID, {})


@pytest.mark.parametrize(
    ("gib", "reason"),
    [
        (19.5, SAID),  # without it, it would have fitted
        (25, SAID),
        (0.5, "CUDA error: out of memory"),
        (None, SAID),  # the driver does not say how much
    ],
)
def test_an_oom_beside_others_is_measured_again(held, gib, reason):
    held[4242] = gib
    record = ended(reason=reason)
    withhold_if_crowded(record, CUDA)
    assert record.details["withheld"] is True
    assert record.reason.startswith(f"{reason}; others held memory of the device: pid 4242")
    assert record.remedy.startswith("the same command once nobody else uses the device")
    assert record.remedy.endswith("a smaller batch")


@pytest.mark.parametrize(
    ("gib", "record", "device"),
    [
        (2, ended(), CUDA),  # it would have lacked 17.5 GiB still
        (30, ended(reason="MemoryError"), CUDA),  # the host's
        (30, ended(Outcome.FAILED, "CUDA error: device-side assert"), CUDA),
        (30, ended(), Device(kind="cpu", name="a CPU", memory_gib=80.0)),
    ],
)
def test_what_others_are_not_to_blame_for(held, gib, record, device):
    held[4242] = gib
    reason = record.reason
    withhold_if_crowded(record, device)
    assert (record.reason, record.details) == (reason, {})
