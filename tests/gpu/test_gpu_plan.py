"""What a plan predicts of memory against CUDA's allocator; skipped where there is no device."""

import gc

import pytest
import torch

from src.planning.cards import card_of
from src.planning.matrix import Fate
from src.planning.needs.footprint import Footprints
from src.planning.planning import plan_runs
from tests.planning.needs.test_memory import predicted

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("workload", [("model=flux-tiny", "batch=8"), ("model=linear", "model.dims.M=4096")])
@pytest.mark.parametrize("quant", ["none", "int8wo"])
def test_peaks_are_predicted_within_a_factor(compose, execute_run, quant, workload):
    cfg = compose(*workload, "gpu=auto", "compile=none", "measure.budget_s=1", f"quant={quant}")
    gc.collect()  # what an earlier test left on the device would count
    card = card_of(cfg.gpu)
    found = predicted(cfg, Footprints(), "cuda", card.memory_gib)
    metrics = execute_run(cfg).metrics
    assert metrics["memory/model_gib"] == pytest.approx(found.model_gib, rel=0.05)
    assert metrics["memory/baseline_model_gib"] == pytest.approx(found.baseline_model_gib, rel=0.01)
    for phase, metric in (("baseline", "baseline_peak_allocated_gib"), ("build", "build_peak_gib")):
        assert 0.5 < found.phases_gib[phase] / metrics[f"memory/{metric}"] < 2, phase


def test_a_card_of_conf_is_described_as_cuda_does(compose):
    here = card_of(compose("gpu=auto").gpu)
    for name in ("a100", "h100", "h200", "b200", "l40s", "rtx4090"):
        gpu = compose(f"gpu={name}").gpu
        if not card_of(gpu).here:
            continue
        described = card_of(gpu, elsewhere=True)
        assert described.device is not None
        assert here.device is not None
        assert described.device.compute_capability == here.device.compute_capability
        assert described.memory_gib == pytest.approx(here.memory_gib, rel=0.02)


def test_what_is_planned_here_is_asked_of_the_device_itself(compose, tmp_path):
    (run,) = plan_runs([compose("gpu=auto", f"outputs={tmp_path}")]).runs
    assert run.fate in (Fate.RUN, Fate.OOM)
