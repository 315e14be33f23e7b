"""The measured loop, driven by a clock of its own: no test here depends on how fast this machine is."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from src.config.schema.measure import MeasureConf
from src.devices.device import Device
from src.devices.monitor import Reading
from src.measurement.paired import Conditions, measure_alone, measure_interleaved
from src.measurement.rounds import Other, Pair, Round, Rounds, estimate_speedup, rounds_in_turn
from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.statistics.speedup import Verdict, verdict
from src.statistics.stopping import StopReason
from src.timers.timer import RoundTimer, cache_flusher
from tests.conftest import SMALL_LINEAR

CPU = Device(kind="cpu", name="a CPU", memory_gib=1.0)
CUDA = Device(kind="cuda", name="a GPU", memory_gib=1.0)
CONF = MeasureConf(
    name="test",
    min_round_ms=1.0,
    max_warmup_s=1.0,
    min_pairs=12,
    max_pairs=60,
    clear_width=0.0,
    budget_s=1e6,
    bootstrap_samples=500,
)


class Clock:
    """Stands still but for the arms, which advance it by what they cost."""

    def __init__(self):
        self.ms = 0.0
        self.calls = []
        self.random = np.random.default_rng(0)

    def arm(self, name, ms, noise=0.002, cold=lambda _: 0.0):
        """A callable of `ms`, and of `cold(n)` more at its call number n."""
        count = 0

        def call():
            nonlocal count
            count += 1
            self.calls.append(name)
            self.ms += ms * float(np.exp(self.random.normal(0, noise))) + cold(count)

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    fake = SimpleNamespace(perf_counter_ns=lambda: round(clock.ms * 1e6), perf_counter=lambda: clock.ms / 1e3)
    monkeypatch.setattr("src.measurement.paired.time", fake)
    monkeypatch.setattr("src.timers.timer.time", fake)
    return clock


def runs_of(names):
    """['A', 'A', 'B'] -> [('A', 2), ('B', 1)]"""
    runs = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    return [tuple(run) for run in runs]


# ---- the loop


def test_rounds_alternate_a_b_b_a(clock):
    baseline, treated = clock.arm("A", 2.0), clock.arm("B", 2.0)
    rounds = measure_interleaved(baseline, treated, CPU, replace(CONF, max_warmup_s=0.0, max_pairs=12))
    assert rounds.order == ["AB", "BA"] * 6
    sizing, measured = clock.calls[:6], clock.calls[6:]
    assert sizing == ["A"] * 3 + ["B"] * 3
    assert "".join(measured) == "ABBA" * 6
    assert len(rounds.baseline_ms) == len(rounds.treated_ms) == 12


def test_three_arms_go_forward_then_backward(clock):
    """The treated one has an unquantized one on either side."""
    conf = replace(CONF, max_warmup_s=0.0, max_pairs=12)
    arms = [clock.arm(name, ms, noise=0) for name, ms in (("A", 3.0), ("B", 2.0), ("C", 1.0))]
    rounds = measure_interleaved(arms[0], arms[1], CPU, conf, others={"float32": arms[2]})
    assert "".join(clock.calls[9:]) == "ABCCBA" * 6
    assert rounds.order == ["AB", "BA"] * 6
    assert (rounds.baseline_ms, rounds.treated_ms) == (pytest.approx([3.0] * 12), pytest.approx([2.0] * 12))
    assert rounds.others["float32"].ms == pytest.approx([1.0] * 12)


def test_the_fastest_unquantized_arm_takes_the_baselines_place(clock):
    conf = replace(CONF, max_warmup_s=0.0, max_pairs=12, min_round_ms=2.0)
    arms = [clock.arm(name, ms, noise=0) for name, ms in (("A", 3.0), ("B", 2.0), ("C", 1.0))]
    rounds = measure_interleaved(arms[0], arms[1], CPU, conf, others={"float32": arms[2]})
    assert rounds.fastest_other() == "float32"
    assert estimate_speedup(rounds, conf).ratio == pytest.approx(1.5)
    faster = rounds.against_fastest("bfloat16")
    assert estimate_speedup(faster, conf).ratio == pytest.approx(0.5)
    assert (faster.baseline, list(faster.others), faster.calls_per_round) == ("float32", ["bfloat16"], (2, 1))
    assert faster.order == ["BA", "AB"] * 6
    again = faster.against("bfloat16", "float32")
    assert (again.baseline_ms, again.order, again.others) == (rounds.baseline_ms, rounds.order, rounds.others)


def test_measuring_goes_on_until_the_ratio_to_the_fastest_is_known(clock):
    """Against the slow arm the interval is narrow at once; against the fast and noisy one it is not."""
    arms = [
        clock.arm("A", 9.0, noise=0.0001),
        clock.arm("B", 2.0, noise=0.0001),
        clock.arm("C", 1.0, noise=0.05),
    ]
    alone = measure_interleaved(arms[0], arms[1], CPU, CONF)
    beside = measure_interleaved(arms[0], arms[1], CPU, CONF, others={"float32": arms[2]})
    assert (alone.stop_reason, beside.stop_reason) == ("narrow", "max_pairs")


def test_states_go_with_their_arm():
    rounds = Rounds(others={"float32": Other()})
    taken = [Round(ms, Reading({"mhz": mhz})) for ms, mhz in ((3.0, 30.0), (2.0, 20.0), (1.0, 10.0))]
    rounds.count(Pair(taken[0], taken[1], "AB", (taken[2],)))
    assert rounds.against_fastest("bfloat16").state_medians() == {
        "baseline/mhz": 10.0,
        "treated/mhz": 20.0,
        "bfloat16/mhz": 30.0,
    }


def test_times_belong_to_their_arm_in_either_order(clock):
    conf = replace(CONF, max_warmup_s=0.0, max_pairs=12)
    rounds = measure_interleaved(clock.arm("A", 3.0, noise=0), clock.arm("B", 2.0, noise=0), CPU, conf)
    assert rounds.baseline_ms == pytest.approx([3.0] * 12)
    assert rounds.treated_ms == pytest.approx([2.0] * 12)


def test_calls_are_batched_until_a_round_is_long_enough(clock):
    conf = replace(CONF, min_round_ms=10.0, max_warmup_s=0.0, max_pairs=12)
    rounds = measure_interleaved(clock.arm("A", 3.0, noise=0), clock.arm("B", 0.4, noise=0), CPU, conf)
    assert rounds.calls_per_round == (4, 25)
    assert runs_of(clock.calls[6:])[:4] == [("A", 4), ("B", 50), ("A", 8), ("B", 50)]
    assert rounds.baseline_ms == pytest.approx([3.0] * 12)
    assert rounds.treated_ms == pytest.approx([0.4] * 12)


def test_a_slow_first_call_does_not_shrink_the_rounds(clock):
    timer = RoundTimer(CPU)
    assert timer.calls_for(clock.arm("A", 1.0, noise=0, cold=lambda n: 500 if n == 1 else 0), 10.0) == 10


def test_warm_up_ends_when_both_arms_are_steady(clock):
    baseline, treated = clock.arm("A", 2.0), clock.arm("B", 1.5, cold=lambda n: 3 * 0.8**n)
    rounds = measure_interleaved(baseline, treated, CPU, CONF)
    assert 10 < rounds.warmup_pairs < 100
    assert max(rounds.treated_ms) < 1.53
    assert len(clock.calls) == 6 + 2 * (rounds.warmup_pairs + len(rounds.order))


def test_warm_up_is_given_up_in_time(clock):
    drifting = clock.arm("A", 2.0, noise=0.5)
    rounds = measure_interleaved(
        drifting, clock.arm("B", 2.0, noise=0.5), CPU, replace(CONF, max_warmup_s=0.04)
    )
    assert rounds.warmup_pairs <= 20


@pytest.mark.parametrize(
    ("changes", "noise", "reason", "pairs"),
    [
        ({"target_ci_width": 0.02}, 0.001, StopReason.NARROW, (13, 30)),
        ({"budget_s": 0.1}, 0.05, StopReason.BUDGET, (20, 30)),
        ({"budget_s": 0.1, "min_pairs": 40}, 0.05, StopReason.BUDGET, (40, 40)),
        ({}, 0.05, StopReason.MAX_PAIRS, (60, 60)),
        ({"min_pairs": 20, "max_pairs": 20}, 0.0001, StopReason.MAX_PAIRS, (20, 20)),
    ],
)
def test_why_measuring_ends(clock, changes, noise, reason, pairs):
    conf = replace(CONF, max_warmup_s=0.0, **changes)
    rounds = measure_interleaved(clock.arm("A", 2.0, noise), clock.arm("B", 2.0, noise), CPU, conf)
    assert rounds.stop_reason == reason
    assert pairs[0] <= len(rounds.order) <= pairs[1]
    assert rounds.seconds == pytest.approx(sum(rounds.baseline_ms + rounds.treated_ms) / 1e3)


def test_an_arm_20_times_slower_needs_three_pairs(clock):
    """A minute per call: one call each sizes the rounds and is the warm-up, then three pairs; CONF asks for 12."""
    conf = replace(CONF, max_warmup_s=5.0, budget_s=10.0, clear_width=0.2)
    rounds = measure_interleaved(clock.arm("A", 3e3, 0.01), clock.arm("B", 6e4, 0.01), CPU, conf)
    assert (len(rounds.order), rounds.stop_reason, rounds.warmup_pairs) == (3, StopReason.CLEAR, 0)
    assert clock.ms < 4.2 * 63e3
    estimate = estimate_speedup(rounds, conf)
    assert verdict(estimate, 0.02) is Verdict.HURTS
    assert estimate.ci_low < 0.05 < estimate.ci_high
    assert estimate.relative_width < 0.2


def test_who_wants_the_ratio_itself_turns_the_clear_verdict_off(clock):
    """5 x 2 % of noise: clear after some pairs, 2 % wide after many."""
    counts = {}
    for clear_width in (0.2, 0.0):
        conf = replace(CONF, clear_width=clear_width, max_pairs=400, target_ci_width=0.02)
        rounds = measure_interleaved(clock.arm("A", 2.0, 0.02), clock.arm("B", 5.0, 0.02), CPU, conf)
        counts[rounds.stop_reason] = len(rounds.order)
    assert set(counts) == {StopReason.CLEAR, StopReason.NARROW}
    assert counts[StopReason.CLEAR] < 12 < counts[StopReason.NARROW]


def test_a_slow_call_is_not_repeated_to_size_a_round(clock):
    assert RoundTimer(CPU).calls_for(clock.arm("A", 1500.0, noise=0), 10.0) == 1
    assert len(clock.calls) == 1


# ---- the instrument


@pytest.mark.parametrize(
    ("treated_ms", "expected"),
    [(2.0, Verdict.NEUTRAL), (2.2, Verdict.HURTS), (1.8, Verdict.HELPS), (2.02, Verdict.NEUTRAL)],
)
@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_what_was_put_in_is_found(clock, treated_ms, expected, noise):
    rounds = measure_interleaved(clock.arm("A", 2.0, noise), clock.arm("B", treated_ms, noise), CPU, CONF)
    estimate = estimate_speedup(rounds, CONF)
    assert verdict(estimate, 0.02) is expected
    assert estimate.ratio == pytest.approx(2.0 / treated_ms, rel=0.01)


def test_more_confidence_is_a_wider_interval(clock):
    rounds = measure_interleaved(clock.arm("A", 2.0, 0.01), clock.arm("B", 2.0, 0.01), CPU, CONF)
    widths = [estimate_speedup(rounds, replace(CONF, confidence=c)).relative_width for c in (0.5, 0.95, 0.99)]
    assert widths == sorted(set(widths))


def test_drift_hits_both_arms(clock):
    """A machine that gets slower by a half while it measures says nothing of the treatment."""

    def slowing(name):
        def call():
            clock.calls.append(name)
            clock.ms += 2.0 * (1 + len(clock.calls) / 400) * float(np.exp(clock.random.normal(0, 0.002)))

        return call

    rounds = measure_interleaved(slowing("A"), slowing("B"), CPU, replace(CONF, max_warmup_s=0.0))
    assert verdict(estimate_speedup(rounds, CONF), 0.02) is Verdict.NEUTRAL


# ---- in turn


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"max_pairs": 30}, 30),
        ({"budget_s": 0.1}, 25),
        ({"budget_s": 0.1, "min_pairs": 40}, 40),
    ],
)
def test_one_arm_alone_gets_half_of_the_budget(clock, changes, count):
    conf = replace(CONF, max_warmup_s=0.0, **changes)
    assert measure_alone(clock.arm("A", 2.0, noise=0), CPU, conf).baseline_ms == pytest.approx([2.0] * count)


def test_one_arm_alone_warms_up_for_half_of_the_time(clock):
    conf = replace(CONF, max_warmup_s=0.46, min_pairs=8, max_pairs=8)
    alone = measure_alone(clock.arm("A", 2.0, noise=0, cold=lambda n: 100 / n), CPU, conf)
    assert (
        len(clock.calls) - len(alone.baseline_ms) == 3 + 2
    )  # sizing takes 189 ms of 230, two rounds the rest


def test_arms_measured_in_turn_are_estimated_unpaired(clock):
    short = replace(CONF, max_pairs=20)
    baseline = measure_alone(clock.arm("A", 2.0, noise=0.002), CPU, CONF)
    rounds = rounds_in_turn(baseline, measure_alone(clock.arm("A", 1.0, noise=0.002), CPU, short))
    assert rounds.order == []
    assert estimate_speedup(rounds, CONF).relative_width == pytest.approx(2 * 1.96 * 0.05, rel=0.05)
    estimate = estimate_speedup(rounds, CONF)
    assert verdict(estimate, 0.02) is Verdict.HELPS
    assert estimate.ratio == pytest.approx(2.0, rel=0.01)
    assert estimate.pairs == 20


@pytest.mark.parametrize(("treated_ms", "rounds"), [(40.0, 7), (2.4, 20)])
def test_in_turn_a_clear_verdict_ends_the_second_arm(clock, treated_ms, rounds):
    """0.05x is beyond doubt, whatever differed between the two spans of time; 0.83x is not."""
    conf = replace(CONF, max_pairs=20, clear_width=0.2)
    baseline = measure_alone(clock.arm("A", 2.0, noise=0.002), CPU, conf)
    treated = measure_alone(clock.arm("A", treated_ms, noise=0.002), CPU, conf, against=baseline)
    assert len(treated.baseline_ms) <= rounds
    found = rounds_in_turn(baseline, treated)
    assert found.stop_reason == (StopReason.CLEAR if rounds < 20 else StopReason.BUDGET)
    assert estimate_speedup(found, conf).ratio == pytest.approx(2.0 / treated_ms, rel=0.01)


def test_in_turn_throttled_rounds_of_both_arms_are_all_kept(clock):
    """Both arms' rounds are numbered from 0; merged, the treated arm's come behind the baseline's."""
    conf = replace(QUICK, budget_s=0.04)
    alone = [
        measure_alone(clock.arm("A", 2.0), CPU, conf, Conditions(monitor=Scripted(*[[why]] * 100)))
        for why in ("hot", "brake")
    ]
    rounds = rounds_in_turn(*alone)
    assert rounds.counted == 24
    assert rounds.throttled == {i: ["hot"] if i < 12 else ["brake"] for i in range(24)}
    assert {aside["why"]: aside["place"] for aside in rounds.retaken} == {
        "throttled: hot": 0,
        "throttled: brake": 12,
    }


def test_in_turn_what_disturbed_a_further_unquantized_arm_is_joined_too():
    """Its rounds are numbered behind those of the other two; it may be the one that counts."""
    own, treated, rival = (
        Rounds(
            baseline_ms=[ms] * count,
            order=["A"] * count,
            late_calls=(late, late),
            states={"baseline/mhz": [ms] * count, "treated/mhz": [ms] * count},
            recompiles=1,
            page_faults=100,
            calls=count,
            seconds=ms,
            retaken=[{"place": 1, "why": why}],
            throttled={0: [why]},
        )
        for ms, count, late, why in ((10.0, 3, 1, "own"), (5.0, 4, 2, "treated"), (6.0, 2, 3, "rival"))
    )
    rounds = rounds_in_turn(own, treated, {"float32": rival})
    assert rounds.throttled == {0: ["own"], 3: ["treated"], 7: ["rival"]}
    assert [(aside["place"], aside["why"]) for aside in rounds.retaken] == [
        (1, "own"), (4, "treated"), (8, "rival"),
    ]  # fmt: skip
    assert (rounds.recompiles, rounds.page_faults, rounds.calls, rounds.seconds) == (3, 300, 9, 21.0)
    assert rounds.counted == 9
    assert rounds.state_medians() == {"baseline/mhz": 10.0, "treated/mhz": 5.0, "float32/mhz": 6.0}
    faster = rounds.against_fastest("bfloat16")
    assert (rounds.late_calls, faster.late_calls) == ((1, 2), (3, 2))
    assert (faster.recompiles, faster.others["bfloat16"].late_calls) == (3, 1)


def test_what_the_verdict_is_against_can_be_settled_beforehand():
    """In a near tie each process would find another arm the fastest."""
    others = {"float32": Other([1.01] * 4)}
    rounds = Rounds(baseline_ms=[1.0] * 4, treated_ms=[0.5] * 4, order=["AB", "BA"] * 2, others=others)
    assert rounds.fastest_other() is None
    assert replace(rounds, settled="float16").fastest_other() is None
    chosen = replace(rounds, settled="float32").against_fastest("bfloat16")
    assert (chosen.baseline, chosen.baseline_ms) == ("float32", [1.01] * 4)
    assert chosen.against_fastest("bfloat16") == chosen
    faster = replace(rounds, others={"float32": Other([0.99] * 4)}, settled="")
    assert faster.against_fastest("bfloat16") == faster


def test_graphs_compiled_while_rounds_are_timed_are_counted(clock):
    """Those of the warm-up are not: they cost no counted round."""
    calls = 0

    def compiling():
        nonlocal calls
        calls, clock.ms = calls + 1, clock.ms + 2.0
        counters["stats"]["unique_graphs"] += calls in (2, 20, 21)  # 2: while the rounds are sized

    rounds = measure_interleaved(clock.arm("A", 2.0), compiling, CPU, QUICK)
    assert rounds.recompiles == 0
    assert calls == 15
    alone = measure_alone(compiling, CPU, QUICK)
    assert alone.recompiles == 2
    assert rounds_in_turn(alone, alone).recompiles == 4


def test_a_run_in_turn(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.pairing=in_turn"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["pairing"] == "in_turn"
    assert record.metrics["speedup/pairs"] == 8
    assert record.metrics["quality/sqnr_db"] > 30
    assert record.metrics["memory/model_gib"] < 0.6 * record.metrics["memory/baseline_model_gib"]
    assert '"order": []' in (tmp_path / "run" / "rounds.json").read_text()


# ---- clocks that cannot be right


@pytest.mark.parametrize("conf", [CONF, replace(CONF, max_warmup_s=0.0)], ids=["warm-up", "no warm-up"])
def test_a_clock_that_stands_still_is_an_error(clock, conf):
    conf = replace(conf, min_round_ms=0.01)
    with pytest.raises(RunEndedError, match="must be finite and positive"):
        measure_interleaved(clock.arm("A", 0.0), clock.arm("B", 0.0), CPU, conf)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_cannot_be_right_give_no_estimate(bad):
    rounds = Rounds(baseline_ms=[1.0] * 12, treated_ms=[1.0] * 11 + [bad], order=["AB"] * 12)
    with pytest.raises(ValueError, match=r"treated_ms\[11\]"):
        estimate_speedup(rounds, CONF)


# ---- CUDA


@pytest.fixture
def events(clock, monkeypatch):
    """torch.cuda.Event and synchronize, on the fake clock; returns the log of what was done."""
    log = clock.calls

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")
            self.at = clock.ms

        def elapsed_time(self, end):
            assert log[-1] == "synchronize", "the end event must have happened"
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: log.append("step"))
    return log


def test_cuda_rounds_are_timed_by_events(clock, events):
    assert RoundTimer(CUDA).ms_per_call(clock.arm("A", 3.0, noise=0), 2) == pytest.approx(3.0)
    assert events == ["synchronize", "record", "step", "A", "step", "A", "record", "synchronize"]


@pytest.mark.usefixtures("events")
def test_the_loop_on_cuda(clock):
    rounds = measure_interleaved(clock.arm("A", 2.0), clock.arm("B", 1.0), CUDA, CONF)
    assert estimate_speedup(rounds, CONF).ratio == pytest.approx(2.0, rel=0.01)


# ---- caches


@pytest.fixture
def flushes(clock, monkeypatch):
    """A flush of 5 ms on the fake clock."""

    def flush():
        clock.calls.append("flush")
        clock.ms += 5.0

    monkeypatch.setattr("src.timers.timer.cache_flusher", lambda _: flush)


@pytest.mark.usefixtures("flushes")
def test_flushing_is_not_timed(clock):
    assert RoundTimer(CPU, cold=True).ms_per_call(clock.arm("A", 3.0, noise=0), 2) == pytest.approx(3.0)
    assert clock.calls == ["flush", "A", "flush", "A"]


@pytest.mark.usefixtures("flushes")
def test_flushing_on_cuda_is_outside_of_the_events(clock, events):
    assert RoundTimer(CUDA, cold=True).ms_per_call(clock.arm("A", 3.0, noise=0), 2) == pytest.approx(3.0)
    once = ["step", "flush", "record", "A", "record"]
    assert events == ["synchronize", *once, *once, "synchronize"]


@pytest.mark.usefixtures("flushes")
def test_flushing_does_not_make_rounds_endless(clock):
    """0.1 ms a call and 5 ms a flush: 100 calls would make a round of 510 ms by the wall."""
    assert RoundTimer(CPU, cold=True).calls_for(clock.arm("A", 0.1, noise=0), 10.0) == 4
    assert RoundTimer(CPU, cold=True).calls_for(clock.arm("A", 30.0, noise=0), 10.0) == 1


@pytest.mark.usefixtures("flushes")
def test_the_loop_with_cold_caches(clock):
    rounds = measure_interleaved(clock.arm("A", 2.0), clock.arm("B", 1.0), CPU, CONF, Conditions(cold=True))
    assert rounds.cache == "cold"
    assert estimate_speedup(rounds, CONF).ratio == pytest.approx(2.0, rel=0.01)


def test_a_flush_replaces_what_the_cache_held(cpu):
    """Twice the cache is read and written; the real one, on this CPU."""
    flush = cache_flusher(replace(cpu, cache_mib=2.0))
    assert flush().numel() * 4 == 4 * 2**20
    assert flush().eq(2).all()


# ---- faults


class Scripted:
    """A monitor that tells these slowdowns in turn, then none."""

    blind = ""

    def __init__(self, *slowdowns):
        self.left = list(slowdowns)

    def read(self):
        return Reading({"sm_mhz": 1000.0}, tuple(self.left.pop(0)) if self.left else ())

    def others(self):
        return []

    def energy_j(self):
        return None


QUICK = replace(CONF, max_warmup_s=0.0, min_pairs=12, max_pairs=12)


def test_a_throttled_pair_is_retaken_and_kept_aside(clock):
    monitor = Scripted((), (), ["HW thermal slowdown"], ())
    rounds = measure_interleaved(
        clock.arm("A", 2.0), clock.arm("B", 2.0), CPU, QUICK, Conditions(monitor=monitor)
    )
    assert len(rounds.order) == 12
    assert [aside["why"] for aside in rounds.retaken] == ["throttled: HW thermal slowdown"]
    assert rounds.retaken[0]["place"] == 1
    assert rounds.order == ["AB", "BA"] * 6  # retaken in the same order
    assert rounds.throttled == {}


def test_a_device_that_always_throttles_still_gives_numbers(clock):
    """The budget ends the retaking: the minimum of pairs is counted, marked."""
    monitor = Scripted(*[["HW slowdown"]] * 1000)
    conf = replace(QUICK, budget_s=0.1)
    rounds = measure_interleaved(
        clock.arm("A", 2.0), clock.arm("B", 2.0), CPU, conf, Conditions(monitor=monitor)
    )
    assert len(rounds.retaken) >= 20
    assert len(rounds.order) == 12
    assert set(rounds.throttled) == set(range(12))


def test_the_state_of_each_round_is_kept(clock):
    rounds = measure_interleaved(
        clock.arm("A", 2.0), clock.arm("B", 2.0), CPU, QUICK, Conditions(monitor=Scripted())
    )
    assert rounds.states == {"baseline/sm_mhz": [1000.0] * 12, "treated/sm_mhz": [1000.0] * 12}
    assert rounds.state_medians() == {"baseline/sm_mhz": 1000.0, "treated/sm_mhz": 1000.0}


def test_a_state_that_is_not_always_told_keeps_its_places():
    rounds = Rounds()
    for values in ({}, {"power_w": 3.0}, {}):
        rounds.count(Pair(Round(1.0, Reading(values)), Round(1.0), "AB"))
    assert rounds.states == {"baseline/power_w": [None, 3.0, None]}


@pytest.mark.parametrize("step_ms", [-500.0, 3.6e6], ids=["back", "an hour on"])
def test_a_clock_that_steps_once_changes_no_verdict(clock, step_ms):
    """Back: the pair is retaken. On: one outlier among the pairs, and the budget may end there."""
    conf = replace(CONF, max_warmup_s=0.0, min_pairs=30, max_pairs=30)
    stepping = clock.arm("B", 1.6, cold=lambda n: step_ms if n == 20 else 0.0)
    rounds = measure_interleaved(clock.arm("A", 2.0), stepping, CPU, conf)
    assert len(rounds.order) == 30
    assert [aside["why"] for aside in rounds.retaken] == (["clock"] if step_ms < 0 else [])
    assert verdict(estimate_speedup(rounds, conf), 0.02) is Verdict.HELPS


def test_what_was_measured_is_kept_when_the_device_vanishes(clock):
    def vanishing():
        clock.ms += 2.0
        clock.calls.append("B")
        if clock.calls.count("B") == 12:
            raise torch.AcceleratorError("CUDA error: device is lost")

    rounds = Rounds()
    with pytest.raises(RuntimeError, match="device is lost"):
        measure_interleaved(clock.arm("A", 2.0), vanishing, CPU, QUICK, rounds=rounds)
    assert len(rounds.order) == 8
