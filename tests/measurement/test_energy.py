"""Joules per call of a fake counter that steps ten times a second, where the true joules are known."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Blind
from src.measurement.energy import Meter, energy_per_call
from src.measurement.paired import Arms
from src.measurement.power_blocks import PowerBlocks, measure_power_blocks
from src.timers.timer import Call, RoundTimer

CPU = Device(kind="cpu", name="a device", memory_gib=1.0)  # timed by the clock: the fake's
STEP_S = 0.1
CONF = MeasureConf(name="test", min_round_ms=10.0)


@dataclass
class Stepping(Blind):
    """A counter that tells what was drawn until its last step, as NVML's does."""

    now_s: float = 0.037
    drawn_j: float = 0.0
    told_j: float | None = 0.0
    blind: str = ""

    def spend(self, seconds: float, watts: float) -> None:
        """Draw, and step on the way."""
        ended_s = self.now_s + seconds
        step = int(ended_s / STEP_S)
        if step > int(self.now_s / STEP_S) and self.told_j is not None:
            self.told_j = self.drawn_j + watts * (step * STEP_S - self.now_s)
        self.drawn_j += watts * seconds
        self.now_s = ended_s

    def arm(self, ms: float, watts: float) -> Call:
        """A callable of so many ms and watts."""
        return lambda: self.spend(ms / 1e3, watts)

    def energy_j(self) -> float | None:
        """NVML's counter."""
        return self.told_j


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Stepping:
    device = Stepping()
    clock = SimpleNamespace(
        perf_counter=lambda: device.now_s, perf_counter_ns=lambda: round(device.now_s * 1e9)
    )
    for module in ("timers.timer", "measurement.energy", "measurement.power_blocks"):
        monkeypatch.setattr(f"src.{module}.time", clock)
    return device


@pytest.mark.parametrize("ms", [2.0, 13.0, 83.0, 127.0, 410.0])
@pytest.mark.parametrize("window_s", [0.5, 2.0])
def test_windows_are_as_long_as_the_counter_needs(counter: Stepping, ms: float, window_s: float) -> None:
    arms = [counter.arm(ms, 690.0), counter.arm(ms / 1.3, 610.0)]
    found = energy_per_call(arms, [1, 1], CPU, counter, window_s)
    assert [each.per_call_j for each in found] == pytest.approx([0.69 * ms, 0.61 * ms / 1.3], rel=0.02)
    assert all(each.error < 0.02 and each.seconds >= window_s for each in found)


@pytest.mark.parametrize("ms", [5.0, 83.0, 300.0, 1300.0])
def test_blocks_tell_joules_over_what_they_count(counter: Stepping, ms: float) -> None:
    calls = max(1, round(10.0 / ms))
    arms = Arms(
        counter.arm(ms, 695.0), counter.arm(ms / 1.3, 640.0), RoundTimer(CPU), counter, (calls, calls)
    )
    found = PowerBlocks()
    measure_power_blocks(arms, CONF, found)
    baseline, treated = found.spent("A"), found.spent("B")
    assert baseline is not None
    assert treated is not None
    assert baseline.per_call_j == pytest.approx(0.695 * ms, rel=max(baseline.error, 1e-6))
    assert treated.per_call_j == pytest.approx(0.64 * ms / 1.3, rel=max(treated.error, 1e-6))
    assert max(baseline.error, treated.error) < 0.2
    power_w = found.rounds().state_medians()["treated/power_w"]
    assert treated.per_call_j == pytest.approx(power_w * ms / 1.3e3, rel=0.1)  # the record agrees with itself


def test_a_counter_that_never_steps_tells_nothing(counter: Stepping) -> None:
    counter.told_j = 5.0
    counter.spend = lambda seconds, _: setattr(counter, "now_s", counter.now_s + seconds)  # type: ignore[assignment, method-assign]
    assert energy_per_call([counter.arm(20.0, 1.0)], [1], CPU, counter, 0.5) == []
    meter = Meter(counter)
    meter.read()
    meter.read(3)
    assert meter.spent() is None


def test_no_window_and_no_counter_tell_nothing(counter: Stepping) -> None:
    arm = counter.arm(20.0, 1.0)
    assert energy_per_call([arm], [1], CPU, counter, 0.0) == []
    counter.told_j = None
    assert energy_per_call([arm], [1], CPU, counter, 2.0) == []
