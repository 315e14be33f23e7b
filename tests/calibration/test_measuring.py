"""One process of a calibration, in this process: real rounds of a tiny Linear, each experiment on disk."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from src.calibration.experiments.measuring import measure_batch
from src.calibration.experiments.plan import Kind, Spec, experiment
from src.calibration.experiments.probes import timer_cost
from src.config.schema.root import CalibrateConf
from src.devices.device import Device
from src.devices.load import Load
from tests.composing import calibration

TINY = (
    "model=linear", "model.dims.M=16", "model.dims.K=256", "model.dims.N=128", "target=linear", "compile=none",
    "gpu=cpu", "gpu.threads=1", "measure=quick", "measure.budget_s=0.1", "measure.max_warmup_s=0",
    "measure.min_round_ms=0.1", "measure.min_pairs=8", "measure.max_pairs=8", "measure.bootstrap_samples=200",
)  # fmt: skip
SPECS = [Spec(Kind.SLOWDOWN, 0.5, swapped=True), Spec(Kind.AA), Spec(Kind.HARNESS), Spec(Kind.BESIDE)]


@pytest.fixture
def conf() -> CalibrateConf:
    return calibration(*TINY, "dtype=bfloat16")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def use(foreign_cpus: float) -> None:
        seen = Load(own_cpus=1.0, foreign_cpus=foreign_cpus, cpus=1, seconds=1.0)
        monkeypatch.setattr("src.tasks.arms.timing.cpu_load", lambda: nullcontext(seen))

    return use


def test_each_experiment_reaches_the_disk_with_its_rounds(
    conf: CalibrateConf, load: Callable[[float], None], tmp_path: Path
) -> None:
    load(0.0)
    heard: list[str] = []
    path = tmp_path / "experiments.jsonl"
    answer = measure_batch(conf, 3, SPECS, path, heard.append)
    assert set(answer) == {"environment", "timer"}, answer
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rounds = [line.pop("rounds") for line in lines]
    assert lines == [json.loads(text) for text in heard]
    slowed, equal, harness, beside = (experiment(line) for line in lines)
    assert (slowed.kind, slowed.swapped, slowed.process, slowed.crowded) == (Kind.SLOWDOWN, True, 3, False)
    assert slowed.truth is not None
    assert slowed.delay_ms is not None
    assert slowed.delay_ms > 0
    assert slowed.truth < 1
    assert len(rounds[0]["delays_ms"]) == len(rounds[0]["treated_ms"]) == slowed.pairs == 8
    assert (equal.truth, equal.delay_ms) == (1.0, None)
    assert len(harness.ratios) == len(beside.ratios) == 4
    assert all(ratio > 0 for ratio in harness.ratios + beside.ratios)


def test_crowded_experiments_come_again_within_reason(
    conf: CalibrateConf, load: Callable[[float], None], tmp_path: Path
) -> None:
    load(0.9)
    heard: list[str] = []
    measure_batch(conf, 1, SPECS[:2], tmp_path / "experiments.jsonl", heard.append)
    found = [experiment(json.loads(text)) for text in heard]
    assert [each.kind for each in found] == [Kind.SLOWDOWN, Kind.AA, Kind.SLOWDOWN]
    assert all(each.crowded for each in found)


def test_what_ends_a_process_is_told_in_one_line(conf: CalibrateConf, tmp_path: Path) -> None:
    conf.model.targets["linear"] = "nowhere"
    answer = measure_batch(conf, 1, SPECS, tmp_path / "experiments.jsonl", lambda _: None)
    assert list(answer) == ["trouble"]
    assert "model.targets.linear=nowhere" in answer["trouble"]


def test_the_timers_cost_is_small_and_positive(cpu: Device) -> None:
    cost = timer_cost(cpu)
    assert set(cost) == {"per_round_ns", "per_call_ns", "around_round_ns", "clock_step_ns"}
    assert cost["per_call_ns"] > 0
    assert cost["clock_step_ns"] > 0
