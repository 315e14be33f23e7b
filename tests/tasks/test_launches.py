"""What a run says of launches, of the power cap, and of the host's neighbours: a GPU's numbers put in."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest

from src.compilation.inductor import uses_cuda_graphs
from src.config.schema.root import CompileConf
from src.devices.device import Device
from src.devices.load import Load
from src.devices.monitor import Blind
from src.measurement.power_blocks import Block, PowerBlocks
from src.measurement.rounds import Other, Rounds, estimate_speedup
from src.tasks.arms.timing import Timed, Watch, host_times
from src.tasks.conclusions.conclusion import conclude
from src.tasks.conclusions.launches import host_metrics
from src.tasks.conclusions.metrics import both_speedups
from src.tasks.conclusions.power_cap import counting_estimate
from src.timers.host import HostTime
from tests.conftest import synthetic_rounds

CUDA = Device(kind="cuda", name="a GPU", memory_gib=80.0)
IDLE = Load(own_cpus=1.0, foreign_cpus=0.0, cpus=8, seconds=10.0)
BUSY = replace(IDLE, foreign_cpus=7.9)
FAST_HOST = HostTime(host_ms=5.0, device_ms=9.0, wall_ms=9.1)
SLOW_HOST = HostTime(host_ms=14.0, device_ms=6.0, wall_ms=14.2)
WHOLE = ("model=flux-tiny", "compile=regional")


@pytest.fixture(scope="module")
def composed(compose):
    """compose, once for each set of overrides."""
    return cache(compose)


@pytest.fixture
def concluded(composed, run_context):
    """concluded(rounds, *overrides, host=, load=, blocks=) -> the run's record on a GPU."""

    def made(rounds, *overrides, host=None, load=IDLE, blocks=None):
        run = run_context(composed(*(overrides or WHOLE)), device=CUDA)
        timed = Timed(rounds, [Watch(Blind(), load, [])], host=host or {}, blocks=blocks)
        estimate = counting_estimate(estimate_speedup(rounds, run.cfg.measure), timed, run)
        conclude(estimate, timed, run)
        run.record.metrics |= host_metrics(timed)
        return run.record

    return made


def test_what_hurts_for_its_launches_says_so(concluded):
    """9.1 against 14.2 ms by the wall, 9 against 6 on the device."""
    record = concluded(synthetic_rounds(0.64), host={"baseline_": FAST_HOST, "": SLOW_HOST})
    assert record.verdict == "hurts"
    assert "host takes 14 ms to launch a call that the device computes in 6 ms" in record.reason
    assert "the device waits 58% of the time (baseline: 1%)" in record.reason
    assert "hurts here because launches cost more: on the device alone it is 1.50x" in record.reason
    assert "compile=reduce-overhead" in record.remedy
    assert record.metrics["latency/host_ms"] == 14.0
    assert record.metrics["latency/baseline_device_ms"] == 9.0
    assert record.metrics["latency/waiting_share"] == pytest.approx(1 - 6 / 14.2)
    assert record.details["host"]["treated"]["bound"]
    assert not record.details["withheld"]


def test_page_faults_are_told_per_timed_call_of_any_arm(concluded):
    rounds = replace(synthetic_rounds(1.3), page_faults=3000, calls=600)
    assert concluded(rounds).metrics["load/page_faults_per_call"] == 5.0


def test_bounds_are_called_bounds(concluded):
    record = concluded(synthetic_rounds(0.64), host={"": replace(SLOW_HOST, ahead=False)})
    assert "the device computes in at most 6 ms: the device waits at least 58% of the time" in record.reason


def test_what_hurts_on_the_device_as_well_is_not_put_down_to_launches(concluded):
    slower = replace(SLOW_HOST, device_ms=12.0)
    record = concluded(synthetic_rounds(0.64), host={"baseline_": FAST_HOST, "": slower})
    assert "because launches cost more" not in record.reason
    assert "waits" in record.reason


def test_with_cuda_graphs_on_they_are_no_remedy(concluded):
    record = concluded(
        synthetic_rounds(0.64),
        *("model=flux-tiny", "compile=reduce-overhead"),
        host={"baseline_": FAST_HOST, "": SLOW_HOST},
    )
    assert "waits" in record.reason
    assert record.remedy == ""


def test_where_the_device_sets_the_pace_nothing_is_said(concluded):
    record = concluded(synthetic_rounds(1.3), host={"baseline_": FAST_HOST, "": FAST_HOST})
    assert (record.verdict, record.reason, record.remedy) == ("helps", "", "")


def test_a_part_tells_what_its_launches_would_cost(concluded):
    rounds = synthetic_rounds(1.3)
    rounds.launches = False
    record = concluded(rounds, "model=linear", host={"": SLOW_HOST})
    assert record.verdict == "helps"
    assert "device computes in 6 ms: a model of nothing else" in record.reason
    assert record.details["launches"] == "hidden"


def test_waiting_that_could_not_be_taken_out_is_told(concluded):
    rounds = synthetic_rounds(1.3)
    rounds.launches, rounds.late_calls = False, (0, 40)
    record = concluded(rounds, "model=linear")
    assert "0 calls of the baseline and 40 of the treated arm could not be launched ahead" in record.reason
    assert record.details["late_calls"] == [0, 40]


@pytest.mark.parametrize(
    ("conf", "graphs"),
    [
        ({"scope": "none", "mode": "reduce-overhead"}, False),
        ({"scope": "regional"}, False),
        ({"mode": "max-autotune"}, True),
        ({"mode": "max-autotune-no-cudagraphs"}, False),
        ({"mode": "reduce-overhead"}, True),
        ({"options": {"triton.cudagraphs": True}}, True),
    ],
)
def test_which_modes_use_cuda_graphs(conf, graphs):
    assert uses_cuda_graphs(CompileConf(name="test", **conf)) == graphs


@pytest.mark.parametrize(
    ("overrides", "device", "asked"),
    [
        (WHOLE, CUDA, [(False, 2.0), (False, 3.0)]),
        ((*WHOLE, "target=block", "measure.cache=auto"), CUDA, [(True, None)] * 2),
        ((*WHOLE, "target=pipeline"), CUDA, []),
        (WHOLE, replace(CUDA, kind="cpu"), []),
    ],
    ids=["whole", "part", "pipeline", "cpu"],
)
def test_what_is_asked_of_the_host(composed, run_context, monkeypatch, overrides, device, asked):
    """How the call was timed, and the wall time of a whole model."""
    heard = []
    monkeypatch.setattr(
        "src.tasks.arms.timing.host_time",
        lambda call, device, *, cold, wall_ms: heard.append((cold, wall_ms)) or FAST_HOST,
    )
    arm = SimpleNamespace(call=lambda: None)
    run = run_context(composed(*overrides), device=device)
    found = host_times({"baseline_": (arm, [1.0, 2.0, 9.0]), "": (arm, [3.0])}, run)
    assert heard == asked
    assert found == (dict.fromkeys(("baseline_", ""), FAST_HOST) if asked else {})


# ---- the host's neighbours


@pytest.mark.parametrize(
    ("host", "load", "withheld"),
    [
        ({"": SLOW_HOST}, BUSY, True),
        ({"": SLOW_HOST}, IDLE, False),
        ({"": SLOW_HOST}, replace(IDLE, foreign_cpus=6.0), False),  # a CPU is free
        ({"": FAST_HOST}, BUSY, False),
        ({"baseline_": SLOW_HOST, "": FAST_HOST}, BUSY, True),
    ],
)
def test_a_crowded_host_matters_where_the_device_waits_for_it(concluded, host, load, withheld):
    record = concluded(synthetic_rounds(1.3), host=host, load=load)
    assert record.details["withheld"] == withheld
    assert (record.verdict == "inconclusive") == withheld
    assert ("7.9 of 8 CPUs while the device waited for the host" in record.reason) == withheld


def test_a_crowded_host_does_not_matter_to_a_part(concluded):
    rounds = synthetic_rounds(1.3)
    rounds.launches = False
    assert not concluded(rounds, "model=linear", host={"": SLOW_HOST}, load=BUSY).details["withheld"]


# ---- the power cap


def blocks(speedup, **more):
    return PowerBlocks([Block(arm, [1.0 if arm == "A" else 1 / speedup] * 4, **more) for arm in "ABBABAAB"])


def test_blocks_that_disagree_with_alternating_rounds_are_told(concluded):
    record = concluded(synthetic_rounds(1.24), blocks=blocks(1.31))
    assert record.verdict == "helps"
    assert "1.310x in blocks of one arm, which is what counts" in record.reason
    assert "1.239x in alternating rounds" in record.reason
    assert record.details["power_cap"]["disagree"]


def test_blocks_decide(concluded):
    record = concluded(synthetic_rounds(1.0), blocks=blocks(1.08))
    assert record.verdict == "helps"
    assert record.metrics["speedup/alternating_ratio"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("rival_ms", "counting", "beside"), [(1.25, "same", "other"), (0.8, "other", "same")]
)
def test_at_the_power_cap_both_speedups_are_of_the_blocks(composed, rival_ms, counting, beside):
    """Blocks of 1.31x where alternating rounds say 1.24x or 0.99x; the other unquantized arm has rounds alone."""
    cfg = composed(*WHOLE, "dtype=bfloat16")
    rounds = synthetic_rounds(1.24)
    rounds.others = {"float32": Other([rival_ms * ms for ms in rounds.baseline_ms])}
    timed = Timed(rounds.against_fastest("bfloat16"), [], blocks=blocks(1.31))
    alternating = estimate_speedup(timed.rounds, cfg.measure)
    found = both_speedups(timed, alternating, timed.blocks.estimate(0.95), cfg)
    apart = max(rival_ms, 1 / rival_ms)
    for part in ("ratio", "ci_low", "ci_high"):
        assert found[f"speedup_{counting}_dtype/{part}"] == pytest.approx(1.31)
        assert found[f"speedup_{beside}_dtype/{part}"] == pytest.approx(1.31 * apart)
    assert found[f"latency/baseline_{counting}_dtype_median_ms"] == pytest.approx(1.0)
    assert found[f"latency/baseline_{beside}_dtype_median_ms"] == pytest.approx(apart)


def test_blocks_that_agree_need_no_words(concluded):
    record = concluded(synthetic_rounds(1.24), blocks=blocks(1.25))
    assert record.reason == ""
    assert not record.details["power_cap"]["disagree"]


def test_blocks_of_a_device_that_throttled_give_no_verdict(concluded):
    record = concluded(synthetic_rounds(1.24), blocks=blocks(1.25, slowdowns=["HW thermal slowdown"]))
    assert record.details["withheld"]
    assert "slowed itself down (HW thermal slowdown) in blocks" in record.reason


def test_counted_rounds_are_those_of_the_blocks():
    timed = Timed(Rounds(), [], blocks=blocks(2.0))
    assert timed.counted.baseline_ms == [1.0] * 16
    assert timed.counted.treated_ms == [0.5] * 16


def test_at_the_power_cap_no_share_of_waiting_is_told(concluded):
    """Both times are of other clocks there."""
    host = {"baseline_": FAST_HOST, "": FAST_HOST}
    record = concluded(synthetic_rounds(1.24), host=host, blocks=blocks(1.31))
    assert "waiting_share" not in record.details["host"]["treated"]
    capped, plain = record.metrics, concluded(synthetic_rounds(1.24), host=host).metrics
    assert "latency/waiting_share" in plain
    assert "latency/waiting_share" not in capped
    assert capped["latency/device_ms"] == plain["latency/device_ms"] == 9.0
