"""The device's own time does not know how slow the host is; a fake device, as there is none here."""

import pytest

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.measurement.paired import Conditions, measure_alone, measure_interleaved
from src.measurement.rounds import estimate_speedup, rounds_in_turn
from src.timers import timer as timers
from src.timers.blocked import BlockedTimer
from src.timers.host import HostTime, host_time
from src.timers.timer import RoundTimer
from tests.timers.fake_cuda import FakeCuda, installed

CUDA = Device(kind="cuda", name="a GPU", memory_gib=1.0)
CPU = Device(kind="cpu", name="a CPU", memory_gib=1.0)
CONF = MeasureConf(
    name="test", min_round_ms=1.0, max_warmup_s=0.0, min_pairs=12, max_pairs=12, bootstrap_samples=200
)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = installed(monkeypatch)
    monkeypatch.setattr(timers, "cache_flusher", lambda _: lambda: fake.kernel(0.07, 0.005))
    return fake


@pytest.mark.parametrize("launch_ms", [0.001, 0.1, 2.0, 40.0])
@pytest.mark.parametrize("cold", [True, False])
def test_the_time_does_not_move_with_the_host_s_slowness(
    cuda: FakeCuda, launch_ms: float, cold: bool
) -> None:
    timer = RoundTimer(CUDA, cold=cold, launches=False)
    call = cuda.arm(0.05, launch_ms, kernels=3)
    assert timer.ms_per_call(call, 4) == pytest.approx(0.05)
    assert timer.late_calls(call) == 0


def test_with_launches_it_does(cuda: FakeCuda) -> None:
    """As it was before: the flush hides 0.07 of 0.15 ms of launching."""
    old = RoundTimer(CUDA, cold=True).ms_per_call(cuda.arm(0.05, 0.15, kernels=3), 4)
    assert old > 0.08


def test_a_layer_that_helps_is_not_said_to_hurt(cuda: FakeCuda) -> None:
    """0.4 against 0.3 ms on the device, launched in 0.05 and 0.6 ms: 0.735 was said of 1.24 on an H100."""
    arms = cuda.arm(0.4, 0.05), cuda.arm(0.3, 0.6, kernels=3)
    found = {
        launches: estimate_speedup(
            measure_interleaved(*arms, CUDA, CONF, Conditions(cold=True, launches=launches)), CONF
        ).ratio
        for launches in (True, False)
    }
    assert found[True] < 0.9
    assert found[False] == pytest.approx(0.4 / 0.3, rel=1e-6)


def test_a_spin_too_short_is_noticed_and_the_call_repeated(cuda: FakeCuda) -> None:
    timer, call = BlockedTimer(), cuda.arm(0.05, 30.0)
    cuda.spun_ms.clear()
    taken = timer.take(call, 3)
    assert [each.ahead for each in taken] == [True] * 3
    assert cuda.spun_ms == pytest.approx([0.5, 45.0, 45.0, 45.0])
    assert [each.host_ms for each in taken] == pytest.approx([30.0] * 3)


def test_one_stall_of_the_host_costs_one_call(cuda: FakeCuda) -> None:
    left = iter([0.0, 0.0, 0.0, 25.0, 0.0, 0.0])

    def call() -> None:
        cuda.kernel(0.05, 0.1 + next(left))

    timer = BlockedTimer()
    cuda.spun_ms.clear()
    taken = timer.take(call, 5)
    assert [each.device_ms for each in taken] == pytest.approx([0.05] * 5)
    assert not timer.late
    assert max(cuda.spun_ms[-1:]) < 1.0  # it does not spin for long ever after


def test_both_arms_are_timed_behind_the_same_spin(cuda: FakeCuda) -> None:
    timer, quick, slow = BlockedTimer(), cuda.arm(0.05, 0.1), cuda.arm(0.05, 4.0)
    timer.take(slow, 2)
    cuda.spun_ms.clear()
    timer.take(quick, 1)
    assert cuda.spun_ms == pytest.approx([6.0])


@pytest.mark.parametrize("reason", ["waits for the device", "more kernels than the queue holds"])
def test_a_call_that_cannot_be_launched_ahead_is_counted(cuda: FakeCuda, reason: str) -> None:
    waits = reason.startswith("waits")
    call = cuda.arm(3.0, 6.0, kernels=1 if waits else 2000, waits=waits)
    timer = RoundTimer(CUDA, launches=False)
    cuda.log.clear()
    assert timer.ms_per_call(call, 5) >= 3.0
    assert timer.late_calls(call) == 5
    assert cuda.log.count("call") == 2 * 4 + 3  # tried four times, twice


def test_a_device_whose_clock_rises_is_made_to_spin_for_longer(cuda: FakeCuda) -> None:
    """Idle it was when the spin was sized: 2 GHz instead of 0.345 make a sixth of it."""
    timer, call = BlockedTimer(), cuda.arm(0.05, 4.0)
    timer.take(call, 1)
    cuda.clock = 6.0
    cuda.spun_ms.clear()
    assert [each.ahead for each in timer.take(call, 8)] == [True] * 8
    assert cuda.spun_ms[-1] == pytest.approx(6.0)
    assert not timer.late


def test_calls_do_not_fill_the_launch_queue_together(cuda: FakeCuda) -> None:
    """900 kernels fit, twice 900 do not: the host would wait for room, and seem slower than it is."""
    taken = BlockedTimer().take(cuda.arm(100.0, 15.0, kernels=900), 6)
    assert [each.host_ms for each in taken] == pytest.approx([15.0] * 6)


def test_the_rounds_say_how_they_were_timed(cuda: FakeCuda) -> None:
    waiting = cuda.arm(0.3, 0.1, waits=True)
    rounds = measure_interleaved(cuda.arm(0.3, 0.1), waiting, CUDA, CONF, Conditions(launches=False))
    assert not rounds.launches
    assert rounds.late_calls[0] == 0
    assert rounds.late_calls[1] >= 12


def test_arms_measured_in_turn_say_it_too(cuda: FakeCuda) -> None:
    alone = measure_alone(cuda.arm(0.3, 0.1), CUDA, CONF, Conditions(launches=False))
    waiting = measure_alone(cuda.arm(0.3, 0.1, waits=True), CUDA, CONF, Conditions(launches=False))
    rounds = rounds_in_turn(alone, waiting)
    assert not rounds.launches
    assert rounds.late_calls[0] == 0
    assert rounds.late_calls[1] >= 12


# ---- the host's time


def test_host_and_device_of_a_part(cuda: FakeCuda) -> None:
    found = host_time(cuda.arm(0.1, 0.4, kernels=3), CUDA)
    assert found is not None
    assert (found.host_ms, found.device_ms, found.ahead) == (pytest.approx(0.4), pytest.approx(0.1), True)
    assert found.bound
    assert found.waiting_share == pytest.approx(0.75)


def test_host_and_device_of_a_whole_model(cuda: FakeCuda) -> None:
    """The device needs 100 of the 120 ms that a call takes by the wall."""
    found = host_time(cuda.arm(100.0, 15.0, kernels=900), CUDA, wall_ms=120.0)
    assert found is not None
    assert (found.host_ms, found.device_ms) == (pytest.approx(15.0), pytest.approx(100.0))
    assert not found.bound
    assert found.waiting_share == pytest.approx(1 / 6)


def test_a_model_of_more_kernels_than_the_queue_holds_has_bounds(cuda: FakeCuda) -> None:
    """Its host is slower than its device, 30 ms to 12."""
    found = host_time(cuda.arm(12.0, 30.0, kernels=3000), CUDA, wall_ms=30.0)
    assert found is not None
    assert not found.ahead
    assert 12.0 <= found.device_ms <= 30.0
    assert found.host_ms == pytest.approx(30.0)
    assert found.bound
    assert 0 < found.waiting_share <= 1 - 12 / 30


def test_a_call_that_waits_for_the_device_is_not_taken_for_host_bound() -> None:
    """Its host's time has the device's in it."""
    assert not HostTime(10.2, 10.0, 10.3, ahead=False).bound
    assert HostTime(10.2, 5.0, 10.3, ahead=False).bound
    assert HostTime(10.2, 10.0, 10.3).bound


def test_slow_calls_are_made_a_few_times_only(cuda: FakeCuda) -> None:
    host_time(cuda.arm(10_000.0, 20.0), CUDA, wall_ms=10_050.0)
    assert cuda.log.count("call") == 3


def test_on_a_cpu_nothing_is_launched() -> None:
    assert host_time(lambda: None, CPU) is None


def test_what_the_record_keeps() -> None:
    assert HostTime(2.0, 1.0, 2.0).as_dict() == {
        "host_ms": 2.0, "device_ms": 1.0, "wall_ms": 2.0, "ahead": True, "bound": True, "waiting_share": 0.5,
    }  # fmt: skip
