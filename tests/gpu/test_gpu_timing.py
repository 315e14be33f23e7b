"""Launches, the host's time and blocks at the power cap, on a real CUDA device; skipped where there is none."""

import os
import time

import pytest
import torch

from src.config.schema.measure import MeasureConf
from src.devices.device import CudaDevice
from src.devices.monitor import open_monitor
from src.measurement.paired import Arms
from src.measurement.power_blocks import PowerBlocks, measure_power_blocks
from src.timers.blocked import BlockedTimer
from src.timers.host import host_time
from src.timers.timer import RoundTimer, cache_flusher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(
        "PYTEST_XDIST_WORKER" in os.environ, reason="tells times: no other test may be on the device"
    ),
]
FLUX = ("model=flux-tiny", "gpu=auto", "compile=regional", "measure.budget_s=2")
LINEAR = ("model=linear", "gpu=auto", "measure.budget_s=1", "model.dims.M=512", "measure.cache=auto")


@pytest.fixture
def device(compose):
    return CudaDevice(compose("gpu=auto").gpu).open()


@pytest.fixture
def matmul():
    """A matmul of some tenths of a millisecond, launched at once."""
    side = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    return lambda: side @ side


def slow(call, ms):
    """The same, launched by a host that is busy for so long before it."""

    def waits():
        until = time.perf_counter() + ms / 1e3
        while time.perf_counter() < until:
            pass
        return call()

    return waits


def median_ms(timer, call, rounds=9):
    return sorted(timer.ms_per_call(call, 5) for _ in range(rounds))[rounds // 2]


@pytest.mark.parametrize("host_ms", [0.3, 5.0])
def test_the_device_s_time_does_not_move_with_the_host_s(device, matmul, host_ms):
    timer = RoundTimer(device, cold=True, launches=False)
    slowed = slow(matmul, host_ms)
    quick = median_ms(timer, matmul)
    assert median_ms(timer, slowed) == pytest.approx(quick, rel=0.1)
    assert timer.late_calls(matmul) == timer.late_calls(slowed) == 0
    assert median_ms(RoundTimer(device), slowed) > host_ms  # launches included


def test_it_agrees_with_a_cuda_graph_over_several_weights(device):
    """Cold weights either way: 32 MiB each, a gigabyte together."""
    x = torch.randn(1024, 4096, device="cuda", dtype=torch.bfloat16)
    weights = [torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(32)]
    torch.nn.functional.linear(x, weights[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for weight in weights:
            torch.nn.functional.linear(x, weight)
    graph.replay()
    by_graph = median_ms(RoundTimer(device), graph.replay) / len(weights)
    timer = RoundTimer(device, cold=True, launches=False)
    assert median_ms(timer, lambda: torch.nn.functional.linear(x, weights[0])) == pytest.approx(
        by_graph, rel=0.25
    )


def test_a_call_that_waits_for_the_device_is_counted(device, matmul):
    timer = RoundTimer(device, launches=False)

    def waits():
        return float(matmul()[0, 0])

    assert timer.ms_per_call(waits, 3) > 0
    assert timer.late_calls(waits) == 3


def test_a_call_of_more_kernels_than_the_queue_holds_is_counted(device):
    small = torch.ones(16, device="cuda")

    def many():
        for _ in range(5000):
            small.add_(0)

    timer = BlockedTimer()
    taken = timer.take(many, 2)
    assert timer.late[many] == 2
    assert not any(each.ahead for each in taken)


def test_which_of_both_sets_the_pace(device, matmul):
    small = torch.ones(16, device="cuda")

    def launches():
        for _ in range(200):
            small.add_(0)

    of_host, of_device = host_time(launches, device), host_time(matmul, device)
    assert of_host.ahead
    assert of_host.bound
    assert of_host.waiting_share > 0
    assert of_device.ahead
    assert not of_device.bound
    assert of_device.waiting_share == 0


def test_a_flush_is_hidden_as_well(device, matmul):
    taken = BlockedTimer(cache_flusher(device)).take(matmul, 5)
    assert all(each.ahead for each in taken)


@pytest.mark.parametrize(
    ("mode", "quant"), [("none", "none"), ("default", "int8dq"), ("reduce-overhead", "int8dq")]
)
def test_a_part_is_timed_without_its_launches(compose, execute_run, mode, quant):
    """Not int8dq without a compiler, which waits for the device itself."""
    record = execute_run(compose(*LINEAR, f"compile={mode}", f"quant={quant}"))
    assert record.outcome == "ok", record.reason
    assert record.details["launches"] == "hidden"
    assert record.details["late_calls"] == [0, 0]
    for prefix in ("", "baseline_"):
        assert record.metrics[f"latency/{prefix}host_ms"] > 0
        assert 0 <= record.metrics[f"latency/{prefix}waiting_share"] < 1
        device_ms = record.metrics[f"latency/{prefix}device_ms"]
        assert device_ms == pytest.approx(record.metrics[f"latency/{prefix}median_ms"], rel=0.3)


def test_a_whole_denoiser_keeps_its_wall_time(compose, execute_run):
    record = execute_run(compose(*FLUX, "quant=int8dq"))
    assert record.outcome == "ok", record.reason
    assert record.details["launches"] == "counted"
    metrics = record.metrics
    assert metrics["latency/device_ms"] < 1.3 * metrics["latency/median_ms"]
    assert 0 <= metrics["latency/waiting_share"] < 1


def test_blocks_of_equal_arms_are_equal(device, matmul, monkeypatch):
    monkeypatch.setattr(
        "src.measurement.power_blocks.BLOCK_S", 0.7
    )  # 0.5 s counted: the energy counter steps
    monkeypatch.setattr("src.measurement.power_blocks.SETTLE_S", 0.2)
    monitor = open_monitor(device)
    arms = Arms(matmul, lambda: matmul(), RoundTimer(device), monitor, (20, 20))
    found = PowerBlocks()
    measure_power_blocks(arms, MeasureConf(name="test", budget_s=1.0), found)
    assert found.estimate(0.95).ratio == pytest.approx(1.0, abs=0.05)
    states = found.rounds().state_medians()
    assert states["treated/sm_mhz"] > 0
    if monitor.energy_j() is not None:
        assert states["treated/power_w"] == pytest.approx(states["baseline/power_w"], rel=0.3)
