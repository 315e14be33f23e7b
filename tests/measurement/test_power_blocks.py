"""Under a power cap: a fake device whose controller follows the power that it drew, as there is none here."""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Reading
from src.measurement.paired import Arms, Conditions, measure_interleaved
from src.measurement.power_blocks import (
    Block,
    PowerBlocks,
    measure_power_blocks,
    stands_at_cap,
)
from src.measurement.rounds import Rounds, estimate_speedup
from src.timers.timer import Call, RoundTimer

CPU = Device(kind="cpu", name="a device", memory_gib=1.0)  # timed by the clock: the fake's
CONF = MeasureConf(
    name="test", min_round_ms=10.0, max_warmup_s=3.0, min_pairs=12, max_pairs=100, bootstrap_samples=200
)
CAP_W = 700.0


@dataclass
class CappedDevice:
    """Power goes with the clock's cube; the controller turns the clock by what a first-order mean of it says.

    The mean's time constant is 0.1 s. Nothing is drawn above the cap for long, and no clock is above the highest.
    """

    now_s: float = 0.0
    clock: float = 1.0  # of the highest
    mean_w: float = CAP_W
    joules: float = 0.0
    slowdowns: tuple[str, ...] = ()
    blind: str = ""
    counter: bool = True
    log: list[tuple[float, str]] = field(default_factory=list)

    def arm(self, name: str, ms: float, watts: float) -> Call:
        """A callable of so many ms and watts at the highest clock."""

        def call() -> None:
            self.log.append((self.now_s, name))
            spent_s = ms / 1e3 / self.clock
            drawn_w = watts * self.clock**3
            self.now_s += spent_s
            self.joules += drawn_w * spent_s
            self.mean_w += (drawn_w - self.mean_w) * (1 - math.exp(-spent_s / 0.1))
            self.clock = min(1.0, max(0.3, self.clock * (1 + 2.0 * spent_s * (1 - self.mean_w / CAP_W))))

        return call

    def read(self) -> Reading:
        """NVML's"""
        capped = float(self.clock < 0.999)
        values = {"sm_mhz": 2000 * self.clock, "power_w": self.mean_w, "power_capped": capped}
        return Reading(values, self.slowdowns)

    def others(self) -> list[str]:
        """Nobody"""
        return []

    def energy_j(self) -> float | None:
        """NVML's counter"""
        return self.joules if self.counter else None


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CappedDevice:
    device = CappedDevice()
    clock = SimpleNamespace(
        perf_counter=lambda: device.now_s, perf_counter_ns=lambda: round(device.now_s * 1e9)
    )
    for module in ("timers.timer", "measurement.paired", "measurement.energy", "measurement.power_blocks"):
        monkeypatch.setattr(f"src.{module}.time", clock)
    return device


def blocks_of(device: CappedDevice, arms: tuple[Call, Call], rounds: Rounds) -> PowerBlocks:
    found = PowerBlocks()
    measure_power_blocks(Arms(*arms, RoundTimer(CPU), device, rounds.calls_per_round), CONF, found)
    return found


def test_alternating_hides_what_blocks_find(device: CappedDevice) -> None:
    """Both arms do the same work; the treated one draws 1,000 W at the full clock, the baseline 1,400."""
    arms = device.arm("A", 5.0, 1400.0), device.arm("B", 5.0, 1000.0)
    rounds = measure_interleaved(*arms, CPU, CONF, Conditions(monitor=device))
    assert estimate_speedup(rounds, CONF).ratio == pytest.approx(1.0, abs=0.01)
    assert stands_at_cap(rounds)
    found = blocks_of(device, arms, rounds)
    estimate = found.estimate(0.95)
    truth = (1400 / 1000) ** (1 / 3)  # at 700 W each: clock ~ cube root of watts
    assert estimate.ratio == pytest.approx(truth, rel=0.02)
    assert estimate.relative_width < 0.03
    states = found.rounds().state_medians()
    assert states["treated/sm_mhz"] / states["baseline/sm_mhz"] == pytest.approx(truth, rel=0.02)
    assert states["baseline/power_w"] == pytest.approx(CAP_W, rel=0.03)
    assert states["treated/power_w"] == pytest.approx(CAP_W, rel=0.03)


def test_equal_arms_are_equal_in_blocks_too(device: CappedDevice) -> None:
    arms = device.arm("A", 5.0, 1400.0), device.arm("B", 5.0, 1400.0)
    rounds = measure_interleaved(*arms, CPU, CONF, Conditions(monitor=device))
    estimate = blocks_of(device, arms, rounds).estimate(0.95)
    assert 1 / 1.02 < estimate.ci_low <= 1.0 + 1e-3
    assert 1.0 - 1e-3 <= estimate.ci_high < 1.02


def test_blocks_take_turns_and_leave_out_their_first_part(device: CappedDevice) -> None:
    arms = device.arm("A", 5.0, 1400.0), device.arm("B", 5.0, 1000.0)
    rounds = measure_interleaved(*arms, CPU, CONF, Conditions(monitor=device))
    began = device.now_s
    found = blocks_of(device, arms, rounds)
    assert "".join(block.arm for block in found.blocks) == "ABBABAAB"
    assert device.now_s - began == pytest.approx(8 * 1.5, rel=0.02)
    counted_s = sum(sum(block.ms) * rounds.calls_per_round[block.arm == "B"] for block in found.blocks) / 1e3
    assert counted_s == pytest.approx(8 * 0.75, rel=0.05)


@pytest.mark.parametrize(("budget_s", "blocks"), [(1.0, 8), (10.0, 8), (30.0, 20), (300.0, 32)])
def test_the_budget_says_how_many(device: CappedDevice, budget_s: float, blocks: int) -> None:
    arms = Arms(device.arm("A", 100.0, 1.0), device.arm("B", 100.0, 1.0), RoundTimer(CPU), device, (1, 1))
    found = PowerBlocks()
    measure_power_blocks(arms, replace(CONF, budget_s=budget_s), found)
    assert len(found.blocks) == blocks


@pytest.mark.parametrize(
    ("ms", "aside", "counted"), [(60.0, 13, 13), (200.0, 4, 4), (500.0, 2, 2), (800.0, 1, 1), (1300.0, 1, 1)]
)
def test_as_long_as_is_set_aside_counts_and_of_a_long_round_one_is_enough(
    device: CappedDevice, ms: float, aside: int, counted: int
) -> None:
    arms = Arms(device.arm("A", ms, 1.0), device.arm("B", ms, 1.0), RoundTimer(CPU), device, (1, 1))
    found = PowerBlocks()
    measure_power_blocks(arms, CONF, found)
    assert [len(block.ms) for block in found.blocks] == [counted] * 8
    assert len(device.log) == 8 * (aside + counted)
    assert device.now_s == pytest.approx(8 * (aside + counted) * ms / 1e3)


@pytest.mark.parametrize(("ms", "pairs"), [(50.0, 8), (1300.0, 4), (400.0, 8)])
def test_longer_blocks_are_fewer_within_a_budget(device: CappedDevice, ms: float, pairs: int) -> None:
    """Of 24 s; a block is 1.5, 2.6 or 1.6 s long."""
    arms = Arms(device.arm("A", ms, 1.0), device.arm("B", ms, 1.0), RoundTimer(CPU), device, (1, 1))
    found = PowerBlocks()
    measure_power_blocks(arms, replace(CONF, budget_s=24.0), found)
    assert len(found.blocks) == 2 * pairs


def test_a_drift_is_cancelled() -> None:
    """The device becomes slower by 1 % a block; the arms are equal."""
    found = PowerBlocks([Block(arm, [1.01**place] * 5) for place, arm in enumerate("ABBABAAB")])
    assert found.estimate(0.95).ratio == pytest.approx(1.0)


def test_power_is_only_told_where_the_counter_tells_it(device: CappedDevice) -> None:
    device.counter = False
    arms = Arms(device.arm("A", 50.0, 900.0), device.arm("B", 50.0, 900.0), RoundTimer(CPU), device, (1, 1))
    found = PowerBlocks()
    measure_power_blocks(arms, CONF, found)
    assert {name for block in found.blocks for name in block.states} == {"sm_mhz", "power_capped"}


def test_slowdowns_are_told(device: CappedDevice) -> None:
    device.slowdowns = ("HW thermal slowdown",)
    arms = Arms(device.arm("A", 50.0, 900.0), device.arm("B", 50.0, 900.0), RoundTimer(CPU), device, (1, 1))
    found = PowerBlocks()
    measure_power_blocks(arms, CONF, found)
    assert found.slowdowns() == ["HW thermal slowdown"]


@pytest.mark.parametrize(
    ("capped", "ms", "calls", "at_cap"),
    [
        ([1.0] * 7 + [0.0] * 3, 5.0, 2, True),
        ([1.0] * 4 + [0.0] * 6, 5.0, 2, False),
        ([None] * 10, 5.0, 2, False),
        ([1.0] * 10, 2000.0, 1, False),  # a round is a block already
    ],
)
def test_when_blocks_are_needed(capped: list[float | None], ms: float, calls: int, at_cap: bool) -> None:
    rounds = Rounds([ms] * 10, [ms] * 10, calls_per_round=(calls, calls))
    rounds.states = {"treated/power_capped": capped}
    assert stands_at_cap(rounds) == at_cap


def test_a_cpu_tells_of_no_cap() -> None:
    assert not stands_at_cap(Rounds([1.0] * 8, [1.0] * 8, states={"baseline/cpu_mhz": [2000.0] * 8}))
