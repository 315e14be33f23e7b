"""The injected delay is as long as it says, by its own record."""

import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from src.calibration.experiments import delay
from src.calibration.experiments.delay import CudaDelay, HostDelay, delayed, true_speedup
from src.devices.device import Device

CPU, CUDA = Device("cpu", "a CPU", 1.0, threads=1), Device("cuda", "a GPU", 1.0)


@dataclass
class FakeClock:
    """Each reading takes 7 ns, a call `call_ns`."""

    now: int = 0
    call_ns: int = 5_000_000

    def read(self) -> int:
        self.now += 7
        return self.now

    def call(self) -> str:
        self.now += self.call_ns
        return "output"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(delay.time, "perf_counter_ns", fake.read)
    return fake


def test_a_delayed_call_lasts_longer_by_the_delay_and_says_so(clock: FakeClock) -> None:
    slow = HostDelay(clock.call, 0.15)
    before = clock.now
    assert [slow() for _ in range(10)] == ["output"] * 10
    lasted_ms = (clock.now - before) / 10 / 1e6
    assert slow.taken_ms() == pytest.approx(np.full(10, 0.15), rel=1e-3)
    assert lasted_ms - 5.0 == pytest.approx(slow.taken_ms().mean(), rel=1e-3)


def test_a_real_delay_is_never_shorter_than_asked_and_is_recorded_as_it_was() -> None:
    slow, lasted = HostDelay(lambda: None, 1.0), []
    for _ in range(5):
        started = time.perf_counter_ns()
        slow()
        lasted.append((time.perf_counter_ns() - started) / 1e6)
    assert (slow.taken_ms() >= 1.0).all()
    assert (slow.taken_ms() <= lasted).all()


def test_delays_are_told_per_round_of_the_last_rounds(clock: FakeClock) -> None:
    slow = HostDelay(clock.call, 1.0)
    for ms in (9.0, 9.0, 1.0, 1.0, 2.0, 2.0):
        slow._ns = round(ms * 1e6)
        slow()
    assert slow.per_round_ms(rounds=2, calls=2) == pytest.approx([1.0, 2.0], rel=1e-4)
    with pytest.raises(ValueError, match="6 delayed calls"):
        slow.per_round_ms(rounds=4, calls=2)


def test_the_truth_comes_from_the_rounds_themselves() -> None:
    """The workload drifts by 40 %, and the delay with it or not: the truth is what was really added."""
    own = np.linspace(5.0, 7.0, 50)
    assert true_speedup(own * 1.03, own * 0.03) == pytest.approx(1 / 1.03)
    assert 1 / 1.03 < true_speedup(own + 0.15, np.full(50, 0.15)) < 1 / (1 + 0.15 / 7)


def test_both_arms_wait_so_that_waiting_itself_costs_both_the_same(clock: FakeClock) -> None:
    plain, slow = delayed([clock.call, clock.call], (0.0, 0.5), CPU)
    for _ in range(8):
        plain()
        slow()
    assert slow.taken_ms().mean() - plain.taken_ms().mean() == pytest.approx(0.5, rel=1e-3)


@dataclass
class FakeGpu:
    """A device whose spin kernel does 2 million cycles per ms, after 0.02 ms of launching."""

    now_ms: float = 0.0
    cycles: list[int] = field(default_factory=list)

    def sleep(self, cycles: int) -> None:
        self.cycles.append(cycles)
        self.now_ms += 0.02 + cycles / 2e6

    def event(self, enable_timing: bool) -> "FakeEvent":
        return FakeEvent(self)


@dataclass
class FakeEvent:
    gpu: FakeGpu
    at_ms: float = 0.0

    def record(self) -> None:
        self.at_ms = self.gpu.now_ms

    def elapsed_time(self, other: "FakeEvent") -> float:
        return other.at_ms - self.at_ms


def test_on_cuda_the_device_waits_as_long_as_the_host(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    gpu = FakeGpu()
    monkeypatch.setattr(torch.cuda, "_sleep", gpu.sleep, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert delay.cycles_per_ms() == pytest.approx(2e6)
    for by_host, taken_ms in ((False, 0.42), (True, 0.4)):
        (slow,) = delayed([clock.call], (0.4,), CUDA, by_host=by_host)
        assert isinstance(slow, CudaDelay)
        assert slow() == "output"
        assert gpu.cycles[-1] == pytest.approx(0.4 * 2e6)
        assert slow.taken_ms() == pytest.approx([taken_ms], rel=1e-3)
