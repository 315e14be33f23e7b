"""On a GPU: what a device is called, and a baseline in the dtype that it computes faster."""

import pytest
import torch

from src.devices.device import AutoDevice
from src.measurement.dtypes import quick_rates
from src.records.record import Outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LARGE = ("gpu=auto", "model=linear", "model.dims.M=4096", "model.dims.K=4096", "model.dims.N=4096")


def test_the_device_says_its_memory_and_power_limit(compose):
    device = AutoDevice(compose("gpu=auto").gpu).open()
    assert device.name.startswith(torch.cuda.get_device_name(0))
    assert device.identity["model"] == torch.cuda.get_device_name(0)
    assert f"{device.identity['memory_gib']:.0f} GiB" in device.name
    assert device.identity["power_limit_w"] is None or f"{device.identity['power_limit_w']} W" in device.name
    assert device.toolchain["driver"] != "none"


def test_auto_is_bfloat16_and_float32_is_compared_with_it(compose, execute_run, monkeypatch):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("bfloat16 is not computed by this device's tensor cores")
    monkeypatch.setattr("src.measurement.dtypes.quick_rates", quick_rates)
    assert execute_run(compose(*LARGE, "quant=int8wo", "dtype=auto")).axes["dtype"] == "bfloat16"
    record = execute_run(compose(*LARGE, "quant=int8wo", "dtype=float32"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["baseline"]["dtype"] in ("bfloat16", "float16")
    assert record.metrics["speedup/ratio"] < record.metrics["speedup_same_dtype/ratio"]
