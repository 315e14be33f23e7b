"""A CUDA device and its host on clocks of their own: launching takes the host's time, computing the device's."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

CYCLES_PER_MS = 2e6
READ_THE_CLOCK = (
    "timers.blocked",
    "timers.host",
    "timers.timer",
    "measurement.paired",
    "measurement.power_blocks",
)


@dataclass
class FakeCuda:
    """Kernels are launched by a host that is slow, and computed in order by a device that is busy."""

    host_ms: float = 0.0
    idle_from_ms: float = 0.0  # when the device has done all that was launched
    clock: float = 1.0  # of the device, in those in which a ms has so many cycles
    queue: int = 1024  # kernels that may wait; the host waits for room beyond
    log: list[str] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # of kernels, in the order launched
    spun_ms: list[float] = field(default_factory=list)

    def kernel(self, device_ms: float, launch_ms: float = 0.0) -> None:
        """Launch a kernel, which takes the host so long; it starts when all before it are done."""
        self.host_ms += launch_ms
        if len(self.ends) >= self.queue:
            self.host_ms = max(self.host_ms, self.ends[-self.queue])
        self.idle_from_ms = max(self.idle_from_ms, self.host_ms) + device_ms
        self.ends.append(self.idle_from_ms)

    def arm(self, device_ms: float, launch_ms: float, kernels: int = 1, *, waits: bool = False) -> Any:
        """A callable of so many kernels, ms in all on the device and on the host; `waits`: for the device, itself."""

        def call() -> str:
            self.log.append("call")
            for _ in range(kernels):
                self.kernel(device_ms / kernels, launch_ms / kernels)
            if waits:
                self.synchronize()
            return "output"

        return call

    def sleep(self, cycles: int) -> None:
        """torch.cuda._sleep"""
        self.log.append("spin")
        self.spun_ms.append(cycles / CYCLES_PER_MS / self.clock)
        self.kernel(self.spun_ms[-1])

    def synchronize(self) -> None:
        """torch.cuda.synchronize"""
        self.host_ms = max(self.host_ms, self.idle_from_ms)

    def event(self, enable_timing: bool) -> "FakeEvent":
        """torch.cuda.Event"""
        assert enable_timing
        return FakeEvent(self)


@dataclass
class FakeEvent:
    """An event happens when the device has done what was launched before it."""

    cuda: FakeCuda
    at_ms: float = float("inf")

    def record(self) -> None:
        self.at_ms = max(self.cuda.host_ms, self.cuda.idle_from_ms)

    def query(self) -> bool:
        return self.cuda.host_ms >= self.at_ms

    def synchronize(self) -> None:
        self.cuda.host_ms = max(self.cuda.host_ms, self.at_ms)

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert end.query(), "the end event must have happened"
        return end.at_ms - self.at_ms


def installed(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """The fake in torch.cuda's place, and its host's clock in that of the measuring modules."""
    cuda = FakeCuda()
    monkeypatch.setattr(torch.cuda, "_sleep", cuda.sleep, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", cuda.event)
    monkeypatch.setattr(torch.cuda, "synchronize", cuda.synchronize)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    clock = SimpleNamespace(
        perf_counter=lambda: cuda.host_ms / 1e3, perf_counter_ns=lambda: round(cuda.host_ms * 1e6)
    )
    for module in READ_THE_CLOCK:
        monkeypatch.setattr(f"src.{module}.time", clock, raising=False)
    return cuda
