"""What is predicted of every scheme on devices that this machine does not have."""

import pytest

from src.config.schema.quant import RequiresConf
from src.devices.capability import Status, capability, missing_hardware
from src.devices.device import Device

CPU = Device(kind="cpu", name="a CPU, 2 threads", memory_gib=8.0)
DEVICES = [
    CPU,
    *(Device("cuda", f"sm{cc * 10:.0f}", 80.0, compute_capability=cc) for cc in (7.5, 8.0, 8.9, 9.0, 10.0)),
]
# o: ok, e: emulated on demand, -: unsupported; on a CPU, then sm75, sm80, sm89, sm90, sm100
PREDICTED = {
    "none": "oooooo",
    "autoquant": "oooooo",
    "regime": "oooooo",
    "int8wo": "oooooo",
    "float8wo": "oooooo",
    "float8wo_e5m2": "oooooo",
    "int4dq": "oooooo",
    "nvfp4wo": "oooooo",
    "nf4": "oooooo",
    "codebook": "oooooo",
    "int8dq": "o-oooo",
    "int8_static": "o-oooo",
    "int4wo": "o-oooo",
    "int4wo_hqq": "o-oooo",
    "bf16_2to4": "--oooo",
    "float8dq": "---ooo",
    "float8_static": "---ooo",
    "float8_e4m3_row": "e--ooo",
    "float8dq_2to4": "----o-",
    "float8dq_int4wo": "----oo",
    "mxfp8": "eeeeeo",
    "mxfp4": "eeeeeo",
    "nvfp4": "-----o",
    "float8dq_e5m2": "------",
    "int8dq_2to4": "------",
    "gguf": "------",
    "uintx_weight_only": "------",
    "fpx_weight_only": "------",
}
LETTERS = {Status.OK: "o", Status.EMULATED: "e", Status.UNSUPPORTED: "-"}


@pytest.fixture
def packages(monkeypatch):
    """packages(*names): these are installed, whatever is."""

    def installed(*names):
        monkeypatch.setattr("src.devices.capability.find_spec", lambda name: name if name in names else None)

    return installed


def test_a_package_inside_one_that_is_absent_is_absent():
    found = missing_hardware(
        RequiresConf(packages=["no_such_package.inner", "torch.nn", "torch.no_such"]), CPU
    )
    assert found == ["the package no_such_package.inner", "the package torch.no_such"]


@pytest.mark.parametrize("quant", PREDICTED)
def test_what_is_predicted(entries, packages, quant):
    packages("mslk")
    found = [capability(entries[quant], device, "bfloat16") for device in DEVICES]
    assert "".join(LETTERS[each.status] for each in found) == PREDICTED[quant]
    for each in found:
        assert (each.status is Status.OK) == (each.reason == "")
        assert each.status is Status.OK or each.remedy
        assert "\n" not in each.reason + each.remedy


@pytest.mark.parametrize(
    ("overrides", "device", "reason", "remedy"),
    [
        (
            ("quant=float8dq",),
            DEVICES[2],
            "float8dq needs compute capability >= 8.9; this is sm80 (compute capability 8.0), bfloat16",
            "h100",
        ),
        (
            ("quant=float8dq_int4wo",),
            DEVICES[4],
            "needs the package mslk; this is sm90",
            "pip install mslk-cuda",
        ),
        (("quant=float8dq_2to4",), DEVICES[5], "needs compute capability < 10.0", "Hopper"),
        (("quant=mxfp8",), CPU, "needs a cuda device, compute capability >= 10.0; this is a CPU", "b200"),
        (
            ("quant=gguf",),
            CPU,
            "gguf cannot run: torchao's GGUFWeightOnlyConfig is no quantization",
            "int4wo",
        ),
        (
            ("quant=int4wo", "quant.group_size=96"),
            CPU,
            "int4wo on cpu takes group sizes 32, 64, 128; this is quant.group_size=96",
            "quant.group_size=32",
        ),
    ],
)
def test_reason_and_remedy(compose, packages, overrides, device, reason, remedy):
    packages()
    found = capability(compose(*overrides).quant, device, "bfloat16")
    assert reason in found.reason
    assert remedy in found.remedy


def test_another_dtype_cannot_be_emulated(compose):
    found = capability(compose("quant=mxfp8").quant, CPU, "float16")
    assert found.status is Status.UNSUPPORTED
    assert "dtype bfloat16" in found.reason


def test_the_devices_own_config_and_storage(compose):
    conf = compose("quant=int4wo").quant
    cpu, cuda = conf.on("cpu"), conf.on("cuda")
    assert "Prototype" in cpu.config["_target_"]
    assert "Prototype" not in cuda.config["_target_"]
    assert (cpu.serializes, cuda.serializes, cpu.bits, cuda.bits) == ("torch", "safetensors", 4.25, 4.25)
