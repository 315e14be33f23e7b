import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import get_class

from src.outcomes import RunEndedError
from src.records.key import run_key
from src.records.record import Outcome
from src.treatments.scheme import make_scheme

GIB = 2**30


def opened(cfg):
    return get_class(cfg.gpu._target_)(cfg.gpu).open()


@pytest.fixture
def cuda(monkeypatch):
    """cuda(name, major, minor): torch believes that it has this device."""

    def present(name, major, minor):
        properties = SimpleNamespace(
            name=name, major=major, minor=minor, total_memory=80 * GIB, L2_cache_size=50 * 2**20
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)

    return present


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_cpu_fixes_and_records_its_threads(compose):
    device = opened(compose("gpu=cpu", "gpu.threads=1"))
    assert device.kind == "cpu"
    assert device.threads == torch.get_num_threads() == 1
    assert device.name.endswith(", 1 thread")
    assert device.memory_gib > 0
    assert device.as_dict()["instruction_set"] == torch.backends.cpu.get_cpu_capability()


def test_cpu_of_another_name_is_unsupported(compose):
    with pytest.raises(RunEndedError, match="this machine's CPU is") as caught:
        opened(compose("gpu=cpu", "gpu.match=Z80"))
    assert caught.value.outcome is Outcome.UNSUPPORTED


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["h100", "h200", "a100", "l40s", "rtx4090", "b200"])
def test_gpu_that_is_not_here(compose, name):
    with pytest.raises(RunEndedError, match=f"gpu={name}: no CUDA device") as caught:
        opened(compose(f"gpu={name}"))
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert "gpu=cpu" in caught.value.remedy


@pytest.mark.parametrize("gpu", ["auto", "h100"])
def test_an_amd_gpu_is_not_taken_for_one_of_nvidia(compose, cuda, monkeypatch, gpu):
    cuda("AMD Instinct MI300X", 9, 4)
    monkeypatch.setattr(torch.version, "hip", "6.3")
    with pytest.raises(RunEndedError, match=f"gpu={gpu}: this torch is ROCm's") as caught:
        opened(compose(f"gpu={gpu}"))
    assert caught.value.outcome is Outcome.UNSUPPORTED


@pytest.mark.parametrize(
    ("gpu", "name", "capability"),
    [
        ("h100", "NVIDIA H100 80GB HBM3", (9, 0)),
        ("h200", "NVIDIA H200", (9, 0)),
        ("a100", "NVIDIA A100-SXM4-80GB", (8, 0)),
        ("l40s", "NVIDIA L40S", (8, 9)),
        ("rtx4090", "NVIDIA GeForce RTX 4090", (8, 9)),
        ("b200", "NVIDIA B200", (10, 0)),
        ("auto", "NVIDIA H100 80GB HBM3", (9, 0)),
    ],
)
def test_gpu_that_is_here(compose, cuda, gpu, name, capability):
    cuda(name, *capability)
    device = opened(compose(f"gpu={gpu}"))
    assert (device.kind, device.name, device.memory_gib) == ("cuda", f"{name} (80 GiB)", 80.0)
    assert device.compute_capability == capability[0] + capability[1] / 10


@pytest.fixture
def nvml(monkeypatch):
    """nvml(watts, mig=0): what a made-up NVML says of the device."""

    def present(watts, mig=0):
        fake = SimpleNamespace(
            NVMLError=Exception,
            nvmlInit=lambda: None,
            nvmlShutdown=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda _: "the device",
            nvmlDeviceGetPowerManagementLimit=lambda _: 1000 * watts,
            nvmlDeviceGetEccMode=lambda _: [1, 1],
            nvmlDeviceGetMigMode=lambda _: [mig, mig],
        )
        monkeypatch.setitem(sys.modules, "pynvml", fake)

    return present


def test_a_power_limit_or_slices_make_another_device(compose, cuda, nvml):
    cuda("NVIDIA H100 80GB HBM3", 9, 0)
    found = []
    for watts, mig in ((700, 0), (400, 0), (700, 1)):
        nvml(watts, mig)
        found.append(opened(compose("gpu=h100")))
    assert [device.name for device in found] == [
        "NVIDIA H100 80GB HBM3 (80 GiB, 700 W)",
        "NVIDIA H100 80GB HBM3 (80 GiB, 400 W)",
        "NVIDIA H100 80GB HBM3 (80 GiB, 700 W, MIG)",
    ]
    assert len({run_key(compose(), device.as_dict()) for device in found}) == 3


def test_the_hosts_memory_is_no_part_of_a_cpus_identity(compose):
    device = opened(compose("gpu=cpu"))
    assert run_key(compose(), replace(device, memory_gib=1.0).as_dict()) == run_key(
        compose(), device.as_dict()
    )


@pytest.mark.parametrize(("gpu", "name"), [("h100", "NVIDIA H200"), ("a100", "NVIDIA A1000")])
def test_gpu_of_another_name(compose, cuda, gpu, name):
    cuda(name, 9, 0)
    with pytest.raises(RunEndedError, match=f"gpu={gpu}: this machine's device is {name}"):
        opened(compose(f"gpu={gpu}"))


@pytest.mark.usefixtures("no_cuda")
def test_auto_without_a_gpu_is_the_cpu(compose):
    assert opened(compose("gpu=auto")).kind == "cpu"


def test_float8dq_needs_compute_capability_8_9(compose, cuda):
    scheme = make_scheme(compose("quant=float8dq").quant)
    cuda("NVIDIA H100 80GB HBM3", 9, 0)
    scheme.check(opened(compose("gpu=h100")), "bfloat16")
    cuda("NVIDIA A100-SXM4-80GB", 8, 0)
    with pytest.raises(RunEndedError, match=r"compute capability >= 8\.9.*NVIDIA A100.*8\.0") as caught:
        scheme.check(opened(compose("gpu=a100")), "bfloat16")
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert "h100" in caught.value.remedy


@pytest.mark.parametrize(
    ("quant", "dtype", "passes"),
    [("int4wo", "bfloat16", True), ("int4wo", "float16", False), ("int8dq", "float16", True)],
)
def test_requirements_on_a_gpu(compose, cuda, quant, dtype, passes):
    cuda("NVIDIA A100-SXM4-80GB", 8, 0)
    scheme = make_scheme(compose(f"quant={quant}").quant)
    device = opened(compose("gpu=a100"))
    if passes:
        scheme.check(device, dtype)
    else:
        with pytest.raises(RunEndedError, match="dtype bfloat16"):
            scheme.check(device, dtype)


def test_a_package_that_is_not_installed(compose, cpu):
    conf = compose("quant=int8wo", "quant.requires.packages=[torch,not_installed_anywhere]").quant
    with pytest.raises(RunEndedError, match="the package not_installed_anywhere"):
        make_scheme(conf).check(cpu, "bfloat16")
