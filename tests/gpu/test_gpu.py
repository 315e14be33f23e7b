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


def test_an_injected_delay_lasts_as_long_as_it_says(compose):
    from src.calibration.delay import delayed, true_speedup
    from src.config.schema import MeasureConf
    from src.measurement.paired import estimate_speedup, measure_interleaved
    from src.workloads.device import CudaDevice

    device = CudaDevice(compose("gpu=auto").gpu).open()
    side = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    conf = MeasureConf(name="test", budget_s=5)
    calls = [lambda: side @ side, lambda: side @ side]
    own_ms = estimate_ms(calls[0], device)
    arms = delayed(calls, (0.0, 0.1 * own_ms), device)
    rounds = measure_interleaved(arms[0], arms[1], device, conf)
    longer = arms[1].taken_ms().mean() - arms[0].taken_ms().mean()
    truth = true_speedup(rounds.as_arrays()[1], longer)
    assert 0.85 < truth < 0.95
    assert abs(estimate_speedup(rounds, conf).median / truth - 1) < 0.02


def estimate_ms(call, device):
    from src.measurement.paired import RoundTimer

    timer = RoundTimer(device)
    timer.ms_per_call(call, 20)
    return timer.ms_per_call(call, 50)


def test_a_process_of_a_calibration(tmp_path):
    import json
    from pathlib import Path

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    from src.calibration.measuring import measure_batch
    from src.calibration.plan import Kind, Spec
    from src.config.schema import register

    register()
    with initialize_config_dir(config_dir=str(Path(__file__).parents[2] / "conf"), version_base=None):
        conf = OmegaConf.to_object(
            hydra_compose("calibrate", overrides=["measure=quick", "measure.budget_s=2"])
        )
    heard = []
    specs = [Spec(Kind.AA), Spec(Kind.SLOWDOWN, 0.1), Spec(Kind.HARNESS)]
    answer = measure_batch(conf, 1, specs, tmp_path / "experiments.jsonl", heard.append)
    assert "trouble" not in answer, answer
    equal, slowed, harness = (json.loads(text) for text in heard)
    assert abs(equal["speedup"] - 1) < 0.05
    assert abs(slowed["speedup"] / slowed["truth"] - 1) < 0.05
    assert all(abs(ratio - 1) < 0.1 for ratio in harness["ratios"])
