"""What a run makes of its timing: cold caches, faults, neighbours; real runs, a GPU's troubles put in."""

import itertools
import json
import math
import weakref

import pytest
import torch
from scipy.special import stdtrit

from src.compilation.scopes import graph_break_reasons
from src.devices.monitor import Blind, Reading
from src.measurement.memory import Peaks
from src.measurement.paired import measure_interleaved
from src.measurement.rounds import Rounds
from src.records.record import Outcome
from src.records.settled import ALTERNATING, BLOCKS
from src.tasks.arms.arm import Arm
from src.tasks.arms.in_turn import InTurn, measure_and_free
from src.tasks.arms.timing import Timed, cold_caches
from src.timers.host import HostTime
from src.timers.timer import RoundTimer
from src.workloads.workload import Whole, Workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR


def rounds_of(tmp_path):
    return json.loads((tmp_path / "run" / "rounds.json").read_text())


@pytest.mark.parametrize(
    ("overrides", "cold"),
    [
        (("model=linear",), True),
        (("model=flux-tiny",), False),
        (("model=flux-tiny", "target=block"), True),
        (("model=linear", "measure.cache=warm"), False),
        (("model=flux-tiny", "measure.cache=cold"), True),
    ],
)
def test_a_part_of_a_model_finds_the_caches_cold(compose, overrides, cold):
    assert cold_caches(compose("measure.cache=auto", *overrides)) == cold


def test_a_run_with_cold_caches(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.cache=auto"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["cache"] == rounds_of(tmp_path)["cache"] == "cold"
    assert record.metrics["speedup/pairs"] == 8
    half = math.log(record.metrics["speedup/ci_high"] / record.metrics["speedup/ratio"])
    assert 0 < 2 * record.metrics["speedup/error"] < half  # Student's t at 8 pairs is more than 2


def test_a_run_says_where_its_threads_were_bound(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert len(record.details["pinned_cpus"]) == 1
    assert record.metrics["load/page_faults_per_call"] >= 0
    assert record.metrics["memory/compile_peak_gib"] > 0


class Troubled(Blind):
    """A GPU that throttles all the while, or that others use too."""

    def __init__(self, slowdowns=(), neighbours=()):
        super().__init__("")
        self.slowdowns, self.neighbours = slowdowns, list(neighbours)

    def read(self):
        return Reading({"sm_mhz": 900.0}, self.slowdowns)

    def others(self):
        return self.neighbours


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Troubled(slowdowns=("HW thermal slowdown",)), "slowed itself down (HW thermal slowdown)"),
        (Troubled(neighbours=["pid 4242 (2.00 GiB)"]), "other processes were on"),
    ],
    ids=["throttled", "shared"],
)
def test_a_troubled_device_gives_no_verdict(compose, execute_run, monkeypatch, tmp_path, trouble, reason):
    monkeypatch.setattr("src.tasks.arms.timing.open_monitor", lambda *_: trouble)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.budget_s=0.1"))
    assert (record.outcome, record.verdict) == (Outcome.OK, "inconclusive")
    assert reason in record.reason
    assert "the same command" in record.remedy
    assert record.details["withheld"]
    assert record.metrics["device/sm_mhz"] == 900.0
    assert len(rounds_of(tmp_path)["treated_ms"]) == 8


def test_a_device_that_vanishes_fails_the_run_and_keeps_its_rounds(
    compose, execute_run, monkeypatch, tmp_path
):
    def vanishes(baseline, treated, *rest, **more):
        left = iter(range(8))

        def call():
            if next(left, None) is None:
                raise torch.AcceleratorError("CUDA error: the device is lost")
            return treated()

        return measure_interleaved(baseline, call, *rest, **more)

    monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", vanishes)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.min_round_ms=0.01"))
    assert (record.outcome, record.verdict) == (Outcome.FAILED, "")
    assert "the device is lost" in record.reason
    assert "measure" in record.phases_s
    assert "nvidia-smi" in record.remedy
    assert 0 < len(rounds_of(tmp_path)["treated_ms"]) < 8


def test_a_budget_too_small_says_so(compose, execute_run, monkeypatch):
    """Rounds of 1 and 2 ms, evenly on both arms and in both orders: no verdict, whatever this machine does."""
    times_ms = itertools.cycle((1.0, 2.0, 2.0, 1.0, 2.0, 1.0, 1.0, 2.0))

    class Scattering(RoundTimer):
        def ms_per_call(self, call, calls):
            super().ms_per_call(call, calls)
            return next(times_ms)

    monkeypatch.setattr("src.measurement.paired.RoundTimer", Scattering)
    record = execute_run(compose(*SMALL_LINEAR, "quant=none", "measure.budget_s=0.1"))
    assert (record.outcome, record.verdict) == (Outcome.OK, "inconclusive")
    assert "crosses the margin" in record.reason
    assert record.details["stop_reason"] in record.reason
    assert "budget_s" in record.remedy


def test_in_turn_keeps_the_rounds_of_both(compose, execute_run, tmp_path):
    small = [override for override in SMALL_FLUX if "=" in override]
    record = execute_run(compose(*small, "resolution=64", "quant=int8wo", "measure.pairing=in_turn"))
    assert record.outcome is Outcome.OK, record.reason
    rounds = rounds_of(tmp_path)
    assert len(rounds["baseline_ms"]) == len(rounds["treated_ms"]) == 8
    assert (tmp_path / "run" / "rounds_baseline.json").exists()


@pytest.mark.parametrize(
    ("rival_ms", "against", "joules"),
    [(0.5, None, 2.0), (2.0, None, 1.0), (1.01, "float32", 2.0), (0.99, "bfloat16", 1.0)],
)
def test_in_turn_measuring_ends_by_the_arm_that_counts_and_energy_and_host_time_are_its_own(
    compose, run_context, monkeypatch, rival_ms, against, joules
):
    """That is the fastest, or in a further process of a run the one that was in the first."""

    def alone(ms, prefix, energy):
        host = {prefix: HostTime(host_ms=energy, device_ms=ms, wall_ms=ms)}
        return Timed(Rounds(baseline_ms=[ms] * 8), [], {prefix: energy}, host=host)

    own = alone(1.0, "baseline_", 1.0)
    own.others["float32"] = alone(rival_ms, "baseline_", 2.0)
    ended_by = []

    def treated(*_, against):
        ended_by.extend(against.baseline_ms)
        return alone(0.8, "", 3.0)

    monkeypatch.setattr("src.tasks.arms.in_turn.time_alone", treated)
    run = run_context(compose(*SMALL_LINEAR))
    run.record.details["process"] = {"against": against} if against else {}
    found = InTurn(None, own).measure(None, run)
    rivals = joules == 2.0
    assert set(found.rounds.baseline_ms) == set(ended_by) == {rival_ms if rivals else 1.0}
    assert found.rounds.baseline == ("float32" if rivals else "")
    assert list(found.rounds.others) == (["bfloat16"] if rivals else ["float32"])
    assert found.energy_j == {"baseline_": joules, "": 3.0}
    assert {prefix: host.host_ms for prefix, host in found.host.items()} == found.energy_j


def test_what_an_arm_compiled_goes_with_it(compose, run_context, monkeypatch):
    """CUDA graphs and frozen weights would stay, in memory that the next arm needs; reasons of graph breaks do."""
    graphs = []

    def compiler(graph, _):
        graphs.append(weakref.ref(graph))
        return graph.forward

    module = Whole(torch.nn.Linear(8, 8))
    module.compile(backend=compiler)
    workload = Workload(module, (torch.ones(2, 8),), {})
    arm = Arm("baseline", workload, None, Peaks(), Peaks(), workload.call(), 0)
    torch.compile(lambda x: torch._dynamo.graph_break() or x + 1, backend="eager")(torch.ones(1))
    monkeypatch.setattr("src.tasks.arms.in_turn.time_alone", lambda *_: "timed")
    assert measure_and_free(arm, run_context(compose(*SMALL_LINEAR)), look=False) == "timed"
    assert [graph() for graph in graphs] == [None]
    assert graph_break_reasons()


class Capped(Blind):
    """A GPU at its power cap all the while."""

    def __init__(self):
        super().__init__("")
        self.joules = 0.0

    def read(self):
        return Reading({"sm_mhz": 1600.0, "power_w": 690.0, "power_capped": 1.0})

    def energy_j(self):
        self.joules += 7.0
        return self.joules


@pytest.fixture
def quick_blocks(monkeypatch):
    monkeypatch.setattr("src.measurement.power_blocks.BLOCK_S", 0.01)
    monkeypatch.setattr("src.measurement.power_blocks.SETTLE_S", 0.005)
    monkeypatch.setattr("src.tasks.arms.side_by_side.stands_at_cap", lambda rounds: bool(rounds.states))
    monkeypatch.setattr("src.tasks.arms.timing.open_monitor", lambda *_: Capped())


@pytest.mark.usefixtures("quick_blocks")
def test_at_the_power_cap_blocks_count(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.budget_s=0.1"))
    assert record.outcome is Outcome.OK, record.reason
    kept = json.loads((tmp_path / "run" / "power_blocks.json").read_text())
    assert [block["arm"] for block in kept["blocks"]] == list("ABBABAABABBABAABABBABAABABBABAAB")[
        : len(kept["blocks"])
    ]
    both = record.details["power_cap"]
    assert both["counts"] == "blocks"
    assert record.metrics["speedup/ratio"] == both["blocks"]["ratio"]
    assert record.metrics["speedup/alternating_ratio"] == both["alternating"]["ratio"]
    assert record.metrics["speedup/pairs"] == len(kept["blocks"]) / 2
    half = math.log(record.metrics["speedup/ci_high"] / record.metrics["speedup/ratio"])
    assert record.metrics["speedup/error"] == pytest.approx(
        half / stdtrit(len(kept["blocks"]) / 2 - 1, 0.975)
    )
    assert record.metrics["device/power_w"] > 0  # from the counter, by arm
    assert "power blocks" in record.phases_s


@pytest.mark.usefixtures("quick_blocks")
@pytest.mark.parametrize(
    ("first", "capped", "blocks"),
    [(BLOCKS, False, True), (ALTERNATING, True, False), (ALTERNATING, False, False)],
)
def test_a_further_process_has_blocks_where_the_first_had_some(
    compose, execute_run, monkeypatch, first, capped, blocks
):
    monkeypatch.setattr("src.tasks.arms.side_by_side.stands_at_cap", lambda _: capped)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.budget_s=0.1"), way=first)
    assert record.outcome is Outcome.OK, record.reason
    assert ("power_cap" in record.details) == blocks
    assert ("process 2: at the power cap, as the first was not" in record.reason) == (capped and not blocks)


@pytest.mark.usefixtures("quick_blocks")
@pytest.mark.parametrize(
    ("blocks", "energy_s", "told"), [(True, 0.0, "power blocks"), (False, 0.01, "windows")]
)
def test_a_record_says_where_its_joules_come_from(compose, execute_run, monkeypatch, blocks, energy_s, told):
    monkeypatch.setattr("src.tasks.arms.side_by_side.stands_at_cap", lambda _: blocks)
    record = execute_run(
        compose(*SMALL_LINEAR, "quant=int8wo", "measure.budget_s=0.1", "measure.cache=warm",
                f"measure.energy_s={energy_s}")
    )  # fmt: skip
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["energy/per_sample_j"] > 0
    assert {name: each["from"] for name, each in record.details["energy"].items()} == {
        "baseline_per_call": told, "per_call": told,
    }  # fmt: skip


def test_alternating_rounds_do_not_tell_the_arms_power_apart(compose, execute_run, monkeypatch):
    """NVML's power is a mean over a second: of both arms."""
    monkeypatch.setattr("src.tasks.arms.timing.open_monitor", lambda *_: Capped())
    monkeypatch.setattr("src.tasks.arms.side_by_side.stands_at_cap", lambda _: False)
    metrics = execute_run(compose(*SMALL_LINEAR, "quant=int8wo")).metrics
    assert metrics["device/both_power_w"] == 690.0
    assert not {"device/power_w", "device/baseline_power_w"} & metrics.keys()
    assert metrics["device/sm_mhz"] == 1600.0
