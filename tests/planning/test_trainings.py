"""What a plan says of trainings, packages and checkpoints: what earlier runs of the same took, or what is sure."""

from datetime import datetime, timedelta

import pytest
import torch

from src.config.schema.measure import MeasureConf
from src.devices.device import GIB
from src.planning.hours import GUESS, History
from src.planning.needs.footprint import Footprints
from src.planning.needs.live import LiveBytes
from src.planning.needs.step import of_one_step
from src.planning.needs.work import least_of_training_s, linear_flop
from src.planning.parts import TRAINED
from src.planning.planning import plan_runs
from src.planning.terminal import print_matrix
from src.records.record import Outcome, Record
from src.training.arm import train_everything, training_arm
from src.training.lora import add_adapters
from src.training.recipe import work_of
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX
from tests.planning.needs.test_memory import predicted

MEASURE = MeasureConf(name="quick", budget_s=10, max_warmup_s=5, timeout_s=900)
AXES = {"model": "digits", "quant": "none", "compile": "none", "batch": 1, "task": "train", "gpu": "cpu"}
STEP = {"batch": "64", "precision": "float32"}


def record(steps: int, train_s: float, step_ms: float) -> Record:
    begin = datetime(2026, 1, 1)
    end = begin + timedelta(seconds=train_s + 4)
    return Record(
        "0" * 16, 1, "sweep", dict(AXES), Outcome.OK, device={"name": "AMD EPYC, 2 threads"},
        phases_s={"build": 1.0, "train": train_s, "judge": 2.0}, metrics={"training/step_ms": step_ms},
        details={"trained": {"steps": steps, "step": STEP}}, started_at=begin.isoformat(),
        finished_at=end.isoformat(),
    )  # fmt: skip


def test_an_earlier_training_tells_of_a_longer_one_of_the_same_step_alone():
    history = History([record(10, train_s=7.0, step_ms=500.0)])  # two seconds of the first step's compiling
    longer = history.estimate(AXES, ["cpu"], MEASURE, 60, steps=100, step=STEP)
    assert longer.seconds == pytest.approx(4 + 7 + 90 * 0.5)
    assert longer.parts_s[TRAINED] == pytest.approx(7 + 90 * 0.5)
    for other, step in (({}, STEP | {"batch": "8"}), ({"quant": "training/adamw8bit"}, STEP)):
        assert history.estimate(AXES | other, ["cpu"], MEASURE, 60, steps=100, step=step).source == GUESS


@pytest.mark.parametrize(
    "given", [("task=training", "training.emulate=true"), ("task=serialize",), ("compile=aot",)]
)
def test_without_earlier_runs_only_what_is_sure_is_said(compose, tmp_path, capsys, given):
    quick = ("model=linear", "model.dims={M:64,K:64,N:64}", "target=linear", "layers=all", "dtype=float32")
    matrix = plan_runs([compose(*quick, *given, f"outputs={tmp_path}", "measure.startup=false")])
    (run,) = matrix.runs
    assert run.estimate.is_open
    assert run.seconds < 1
    print_matrix(matrix)
    said = capsys.readouterr().out
    assert "unknown" in said
    assert "at least 0.00 device hours in all, one run after another: at least" in said
    assert "no earlier run of the kind says how long they take" in said
    assert "% of them rounds" not in said


def test_a_training_is_counted_as_three_products_of_each_layer_in_each_step(compose):
    cfg = compose("task=train", "model=digits", "model.training.steps=7", "model.training.batch=4")
    footprints = Footprints()
    step = of_one_step(cfg)
    assert (step.batch, step.dtype) == (4, "float32")
    flop = linear_flop(footprints.of(step).rows)
    assert least_of_training_s(cfg, 2.0, footprints) == pytest.approx(7 * 3 * flop / 2e12)
    assert work_of(cfg) == {"batch": "4", "precision": "float32"}
    gib = predicted(cfg, footprints, "cpu", None).phases_gib
    weights = footprints.of(step).weights / 2**30
    assert gib["train"] > 5 * weights, "weights, average, gradients and what AdamW keeps; activations on top"


@torch.no_grad()
def test_the_memory_of_a_step_is_that_of_its_gradients_and_of_what_autograd_keeps(compose, cpu):
    cfg = compose(*SMALL_FLUX, "task=training", "training.emulate=true", "dtype=float32")
    footprints = Footprints()
    footprint = footprints.of(cfg)
    workload = build_workload(cfg, cpu)
    train_everything(workload.module)
    look = training_arm(workload, torch.optim.AdamW, 2, 0).first_look()
    kept = look.gradient_bytes + look.saved_bytes
    assert look.gradient_bytes < footprint.step < 2 * kept
    gib = predicted(cfg, footprints, "cpu", None).phases_gib
    assert gib["treated"] > gib["baseline"] > (3 * footprint.weights + look.gradient_bytes) / 2**30


@torch.no_grad()
@pytest.mark.parametrize("also", [(), ("target=block", "batch=2")])
def test_the_memory_of_adapters_is_that_of_peft_and_their_optimizer(compose, cpu, also):
    lora = ("training.lora.rank=8", "training.lora.alpha=16", "training.lora.layers='(.*\\.)?(to_q|to_k)'")
    cfg = compose(*SMALL_FLUX, "task=training", "quant=int8wo", "layers=all", "dtype=float32", *lora, *also)
    footprints = Footprints()
    footprint = footprints.of(cfg)
    assert footprint.trouble == ""
    named = [row for row in footprint.rows if row.name.endswith(("to_q", "to_k"))]
    assert footprint.adapters == sum(8 * (row.K + row.N) * 4 for row in named) > 0
    workload = build_workload(cfg, cpu)
    add_adapters(workload.module, cfg.training.lora, 0)
    arm = training_arm(workload, torch.optim.AdamW, 2, 0)
    with torch.enable_grad(), LiveBytes() as live:
        arm.loss(arm.module(*arm.args, **arm.kwargs)).backward()
    arm.optimizer.step()
    assert footprint.step == pytest.approx(live.peak, rel=0.02)
    assert 2 * footprint.adapters == pytest.approx(arm.state_bytes(), rel=0.01)
    found = predicted(cfg, footprints, "cpu", None)
    assert found.baseline_model_gib * GIB == pytest.approx(size_bytes(arm.module))
    held = size_bytes(arm.module) + arm.state_bytes() + arm.given_bytes() + live.peak
    assert found.phases_gib["baseline"] * GIB == pytest.approx(held, rel=0.02)
    treated = size_bytes(arm.module) - (found.baseline_model_gib - found.model_gib) * GIB
    own = treated + arm.state_bytes() + arm.given_bytes()
    dequantized = max(footprint.layer_bytes.values())
    assert found.phases_gib["treated"] * GIB == pytest.approx(held + own + dequantized, rel=0.02)
    assert found.model_gib < 0.5 * found.baseline_model_gib


def test_adapters_that_fit_no_layer_are_the_runs_to_refuse(compose):
    footprint = Footprints().of(
        compose(*SMALL_FLUX, "task=training", "training.lora.rank=8", "training.lora.layers=nothing")
    )
    assert (footprint.trouble, footprint.adapters) == ("", 0)
