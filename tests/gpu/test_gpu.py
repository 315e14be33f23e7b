"""The same runs on a real CUDA device; skipped where there is none."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FLUX = ("model=flux-tiny", "gpu=auto", "compile=regional", "measure.budget_s=2")
LINEAR = ("model=linear", "gpu=auto", "compile=default", "measure.budget_s=1", "model.dims.M=512")


@pytest.mark.parametrize("quant", ["none", "int8wo", "int8dq", "float8wo", "float8dq", "int4wo"])
@pytest.mark.parametrize("workload", [FLUX, LINEAR], ids=["flux", "linear"])
def test_the_capability_check_foretells_what_runs(compose, execute_run, quant, workload):
    record = execute_run(compose(*workload, f"quant={quant}"))
    assert record.outcome in ("ok", "unsupported"), record.reason
    if record.outcome == "unsupported":
        assert record.reason
        assert record.remedy
        return
    assert record.metrics["memory/peak_allocated_gib"] > 0
    assert record.metrics["latency/median_ms"] > 0
    assert record.metrics["compile/recompiles"] == 0


def test_float8dq_runs_from_compute_capability_8_9_on(compose, execute_run):
    expected = "ok" if torch.cuda.get_device_capability() >= (8, 9) else "unsupported"
    assert execute_run(compose(*LINEAR, "quant=float8dq")).outcome == expected


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune-no-cudagraphs"])
def test_cuda_graphs_do_not_overwrite_the_compared_output(compose, execute_run, mode):
    record = execute_run(compose(*LINEAR[:2], *LINEAR[3:], f"compile={mode}", "quant=none"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["quality/cosine"] > 0.9999


def test_autoquant_ends_in_a_plan_or_the_baseline(compose, execute_run):
    record = execute_run(compose(*LINEAR, "quant=autoquant"))
    assert record.outcome == "ok", record.reason


@pytest.mark.parametrize("mode", ["regional", "default", "reduce-overhead"])
def test_a_whole_pipeline(compose, execute_run, mode):
    record = execute_run(compose(*FLUX[:2], "target=pipeline", f"compile={mode}", "quant=int8wo"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["quality/psnr_db"] > 25
    assert record.metrics["compile/recompiles"] == 0
