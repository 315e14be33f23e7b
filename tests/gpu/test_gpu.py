"""The same runs on a real CUDA device; skipped where there is none."""

import gc
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from src.devices.capability import Status, capability
from src.devices.device import AutoDevice
from src.measurement.ceilings import measure_ceilings
from src.tasks.arms.untreated import untreated
from tests.conftest import canonical

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALONE = "PYTEST_XDIST_WORKER" not in os.environ  # else other tests are on the device
times_it = pytest.mark.skipif(not ALONE, reason="tells times: no other test may be on the device")
FLUX = ("model=flux-tiny", "gpu=auto", "compile=regional", "measure.budget_s=2")
LINEAR = ("model=linear", "gpu=auto", "compile=default", "measure.budget_s=1", "model.dims.M=512")


@pytest.mark.parametrize("quant", canonical("quant"))
@pytest.mark.parametrize("workload", [FLUX, LINEAR], ids=["flux", "linear"])
def test_the_capability_check_predicts_what_runs(compose, execute_run, quant, workload):
    cfg = compose(*workload, f"quant={quant}", "measure.warm_compile=false")
    predicted = capability(cfg.quant, AutoDevice(cfg.gpu).open(), cfg.dtype)
    record = execute_run(cfg)
    assert record.outcome in ("ok", "unsupported", "compile_error"), record.reason
    if record.outcome != "ok":
        assert record.reason
    if predicted.status is not Status.OK:
        assert record.outcome == "unsupported"
        assert record.remedy
    if record.outcome != "ok":
        return
    assert record.metrics["memory/peak_allocated_gib"] > 0
    assert record.metrics["latency/median_ms"] > 0
    assert record.metrics["compile/recompiles"] == 0


@pytest.mark.parametrize(("launcher", "mode"), [("local", "regional"), ("submitit_local", "none")])
def test_the_command_line_s_own_processes_use_the_device(tmp_path, launcher, mode):
    """`local` forks them from a server that has imported the model's class: CUDA must be untouched there."""
    options = ("-m", f"hydra/launcher={launcher}", "model=flux-tiny", "quant=int8wo", f"compile={mode}",
               "tracking=none", f"outputs={tmp_path}", "measure.budget_s=1", "measure.energy_s=0.2",
               "measure.ceilings=false")  # fmt: skip
    cold = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "4"}
    command = [sys.executable, "-m", "src.run", *options]
    done = subprocess.run(command, env=os.environ | cold, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/*/record.json")
    record = json.loads(path.read_text())
    assert (record["outcome"], record["device"]["kind"]) == ("ok", "cuda"), record["reason"]
    assert (record["metrics"].get("compile/warm_s", 0) > 0) == (mode != "none")
    if ALONE and not torch.cuda.is_initialized():  # else other tests, or this process, are on it
        assert "other processes were on" not in record["reason"]  # the compiler's are not


@pytest.mark.parametrize("mode", ["none", "default"])
@pytest.mark.parametrize("quant", ["int8dq", "int8_static"])
def test_int8_matmuls_need_more_than_16_rows(compose, execute_run, quant, mode):
    cfgs = (compose(*LINEAR[:2], f"compile={mode}", f"quant={quant}", f"model.dims.M={m}") for m in (16, 17))
    few, enough = (execute_run(cfg) for cfg in cfgs)
    assert (few.outcome, enough.outcome) == ("unsupported", "ok"), enough.reason
    assert "M=16 is below 17" in few.reason
    with pytest.raises(RuntimeError, match="greater than 16"):
        torch._int_mm(
            torch.ones(16, 64, dtype=torch.int8, device="cuda"),
            torch.ones(64, 64, dtype=torch.int8, device="cuda").t(),
        )


def test_float8dq_runs_from_compute_capability_8_9_on(compose, execute_run):
    expected = "ok" if torch.cuda.get_device_capability() >= (8, 9) else "unsupported"
    assert execute_run(compose(*LINEAR, "quant=float8dq")).outcome == expected


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune-no-cudagraphs"])
def test_cuda_graphs_do_not_overwrite_the_compared_output(compose, execute_run, mode):
    record = execute_run(compose(*LINEAR[:2], *LINEAR[3:], f"compile={mode}", "quant=none"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["quality/cosine"] > 0.9999


def test_cuda_graphs_block_by_block_in_both_arms(compose, execute_run):
    """Each block is a graph of its own, and what one gives to the next is not overwritten."""
    cfg = compose("model=flux-tiny", "gpu=auto", "dtype=bfloat16", "compile=regional", "quant=float8wo",
                  "recipe.cuda_graphs=true", "measure.budget_s=1")  # fmt: skip
    record = execute_run(cfg)
    assert record.outcome == "ok", record.reason
    assert record.metrics["quality/cosine"] > 0.99
    assert not [said for said in record.details.get("warnings", []) if "CUDA graphs" in said]


def test_in_turn_cuda_graphs_leave_no_memory_behind(compose, run_context):
    """The baseline's output and work lie in its graphs' own memory, 128 MiB and more: the next arm needs it."""
    cfg = compose(*LINEAR[:2], "compile=reduce-overhead", "model.dims={M:16384,K:4096,N:4096}", "quant=none",
                  "measure.pairing=in_turn", "measure.budget_s=1", "measure.cache=warm")  # fmt: skip
    with torch.no_grad():
        given = untreated(run_context(cfg, AutoDevice(cfg.gpu).open()))
    assert not given.arms.together
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() - torch.cuda.memory_allocated() < 2**26


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_autoquant_ends_in_a_plan_or_the_baseline(compose, execute_run, mode):
    record = execute_run(compose(*LINEAR[:2], *LINEAR[3:], f"compile={mode}", "quant=autoquant"))
    assert record.outcome == "ok", record.reason


def test_the_device_is_watched(compose, execute_run):
    """Clocks, power and temperature of each round, energy per sample, the device's own used memory."""
    record = execute_run(compose(*FLUX, "quant=none", "measure.energy_s=0.5"))
    assert record.outcome == "ok", record.reason
    assert record.details["not_watched"] == ""
    for state in ("sm_mhz", "memory_mhz", "temperature_c"):
        assert record.metrics[f"device/{state}"] > 0
        assert record.metrics[f"device/baseline_{state}"] > 0
    assert record.metrics["memory/device_used_gib"] >= record.metrics["memory/peak_allocated_gib"]
    joules = record.metrics["energy/per_sample_j"], record.metrics["energy/baseline_per_sample_j"]
    assert joules[0] == pytest.approx(joules[1], rel=0.5)


def test_cold_caches_are_slower_than_warm_ones(compose, execute_run):
    """4096 x 4096 in bf16 is 32 MiB: it fits into the L2 of a large GPU."""
    cold, warm = (
        execute_run(
            compose(*LINEAR, "model.dims.M=1", "quant=none", f"measure.cache={cache}", "compile=none")
        )
        for cache in ("cold", "warm")
    )
    assert (cold.details["cache"], warm.details["cache"]) == ("cold", "warm")
    assert cold.metrics["latency/median_ms"] > 0
    alone = "other processes were on" not in cold.reason + warm.reason
    if alone and torch.cuda.get_device_properties(0).L2_cache_size > 40 * 2**20:
        assert cold.metrics["latency/median_ms"] > warm.metrics["latency/median_ms"]


def test_the_record_says_which_device_it_was(compose, execute_run):
    found = execute_run(compose(*LINEAR, "quant=none")).environment
    cuda = found["hardware"]["cuda"]
    assert cuda["name"] == torch.cuda.get_device_name(0)
    assert cuda["l2_bytes"] > 0
    assert cuda["power_limit_w"] > 0 or "power_limit_w" in cuda["left_out"]
    assert found["driver"] != "none"
    assert found["cudnn"] != "none"


def test_ceilings_of_this_device_leave_nothing_behind(compose):
    device = AutoDevice(compose("gpu=auto").gpu).open()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    found = measure_ceilings(device)
    assert torch.cuda.memory_allocated() <= before[0]
    assert torch.cuda.memory_reserved() <= before[1]
    assert found["seconds"] < 30
    assert found["crowded"] == bool(found["doubts"])  # earlier tests, and others beside, may be on the device
    values = {name: entry.get("value") for name, entry in found["entries"].items()}
    assert values["copy_gb_s"] > 50
    assert values["bfloat16_tflop_s"] > values["float32_tflop_s"] / 2 > 0
    assert values["int8_top_s"] or found["entries"]["int8_top_s"]["reason"]
    has_float8 = torch.cuda.get_device_capability() >= (8, 9)
    assert (values["float8_e4m3_tflop_s"] is not None) == has_float8


def test_a_run_logs_its_ceilings(compose, execute_run, tmp_path):
    record = execute_run(compose(*LINEAR, "quant=none", "measure.ceilings=true", f"outputs={tmp_path}"))
    assert record.outcome == "ok", record.reason
    if record.ceilings["crowded"]:
        pytest.skip(f"the device was not alone: {record.ceilings['doubts']}")
    assert record.metrics["ceiling/copy_gb_s"] > 0
    assert list((tmp_path / "cache" / "ceilings").glob("*.json"))


@pytest.mark.parametrize(
    "workload", [FLUX, (*LINEAR[:2], *LINEAR[3:], "compile=none")], ids=["flux", "eager"]
)
@pytest.mark.parametrize("pairing", ["interleaved", "in_turn"])
def test_a_profile_splits_the_device_s_time_and_keeps_its_memory(
    compose, execute_run, tmp_path, workload, pairing
):
    options = ("quant=int8wo", f"measure.pairing={pairing}", "measure.profile=true")
    record = execute_run(compose(*workload, *options))
    assert "files" in record.details["profile"], record.details["profile"]
    metrics = record.metrics
    assert metrics["profile/baseline_matmul_ms"] > 0
    assert metrics["profile/matmul_ms"] > 0
    assert metrics["profile/baseline_quantize_ms"] == 0
    assert metrics["profile/quantize_ms"] + metrics["profile/quantize_fused_ms"] > 0
    assert 0 <= metrics["profile/idle_share"] < 1
    for arm in ("baseline", "treated"):
        snapshot = pickle.loads((tmp_path / "run" / f"memory_{arm}.pickle").read_bytes())
        assert any(snapshot["device_traces"])
        assert snapshot["segments"]


def test_a_profile_of_cuda_graphs_sees_their_kernels(compose, execute_run):
    options = ("compile=reduce-overhead", "quant=int8wo", "measure.profile=true")
    record = execute_run(compose(*LINEAR[:2], *LINEAR[3:], *options))
    assert "files" in record.details["profile"], record.details["profile"]
    assert record.metrics["profile/matmul_ms"] > 0


@times_it
def test_an_injected_delay_lasts_as_long_as_it_says(compose):
    from src.calibration.experiments.delay import delayed, true_speedup
    from src.config.schema.measure import MeasureConf
    from src.devices.device import CudaDevice
    from src.measurement.paired import estimate_speedup, measure_interleaved

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
    found = estimate_speedup(rounds, conf)
    assert found.ci_low / 1.02 < truth < found.ci_high * 1.02


def estimate_ms(call, device):
    from src.timers.timer import RoundTimer

    timer = RoundTimer(device)
    timer.ms_per_call(call, 20)
    return timer.ms_per_call(call, 50)


@pytest.mark.parametrize("mode", ["regional", "default", "reduce-overhead"])
def test_a_whole_pipeline(compose, execute_run, mode):
    record = execute_run(compose(*FLUX[:2], "target=pipeline", f"compile={mode}", "quant=int8wo"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["quality/psnr_db"] > 25
    assert record.metrics["compile/recompiles"] == 0


@times_it
def test_a_process_of_a_calibration(tmp_path):
    from src.calibration.experiments.measuring import measure_batch
    from src.calibration.experiments.plan import Kind, Spec
    from tests.composing import calibration

    conf = calibration("measure=quick", "measure.budget_s=2", "dtype=bfloat16")
    heard = []
    specs = [Spec(Kind.AA), Spec(Kind.SLOWDOWN, 0.1), Spec(Kind.HARNESS)]
    answer = measure_batch(conf, 1, specs, tmp_path / "experiments.jsonl", heard.append)
    assert "trouble" not in answer, answer
    found = {each["kind"]: each for each in map(json.loads, heard)}  # a crowded one comes again
    equal, slowed, harness = (found[spec.kind] for spec in specs)
    assert abs(equal["speedup"] - 1) < 0.05
    assert abs(slowed["speedup"] / slowed["truth"] - 1) < 0.05
    assert all(abs(ratio - 1) < 0.1 for ratio in harness["ratios"])


@pytest.mark.parametrize("quant", ["none", "int8wo", "int8dq", "float8wo", "float8dq", "int4wo"])
def test_a_saved_model_gives_the_same_in_a_fresh_process(compose, execute_run, quant):
    record = execute_run(compose("task=serialize", *FLUX[:2], "compile=none", f"quant={quant}"))
    assert record.outcome in ("ok", "unsupported"), record.reason
    if record.outcome == "ok":
        found = record.details["serialize"]
        assert (found["format"], found["equal"]) == ("safetensors", True)
        work_gib = 0.1  # a library's workspace, and what unpacking a layer takes, whatever the model's size
        size_gib = record.metrics["serialize/baseline_size_gib"]
        assert record.metrics["serialize/load_peak_gib"] < 1.5 * size_gib + work_gib


@pytest.mark.parametrize("pairing", ["interleaved", "in_turn"])
def test_streamed_weights_never_lie_unquantized_on_the_device(compose, execute_run, pairing):
    """Deep enough that the model (0.76 GiB) outweighs a layer and what torchao needs for it."""
    deep = ("model.factory.num_layers=4", "model.factory.num_single_layers=16",
            "model.factory.num_attention_heads=16", "compile=none", f"measure.pairing={pairing}")  # fmt: skip
    found = {}
    for where in ("device", "streamed", "cpu"):
        torch.cuda.empty_cache()
        record = execute_run(compose(*FLUX[:2], *deep, "measure.budget_s=1", f"quant.where={where}"))
        assert record.outcome == "ok", record.reason
        assert record.metrics["quality/sqnr_db"] > 25  # the arms hold the same weights
        found[where] = record.metrics
    beside_gib = found["device"]["memory/baseline_model_gib"] if pairing == "interleaved" else 0
    whole_gib = found["device"]["memory/baseline_model_gib"]
    held_gib = {where: metrics["memory/quantize_peak_gib"] - beside_gib for where, metrics in found.items()}
    assert held_gib["device"] > whole_gib
    assert held_gib["streamed"] < 0.8 * whole_gib, held_gib
    assert held_gib["cpu"] < 0.8 * whole_gib, held_gib


@pytest.mark.parametrize("where", ["device", "cpu"])
@pytest.mark.parametrize("quant", ["int8wo", "float8wo"])
def test_diffusers_makes_the_same_on_this_device(compose, execute_run, quant, where):
    ways = ("quant.via=direct", "quant.via=diffusers")
    records = [
        execute_run(compose(*FLUX[:2], "compile=none", f"quant={quant}", f"quant.where={where}", way,
                            "measure.budget_s=1"))
        for way in ways
    ]  # fmt: skip
    assert [record.outcome for record in records] == ["ok", "ok"], [record.reason for record in records]
    first, second = (record.metrics for record in records)
    for name in ("quality/sqnr_db", "quality/max_abs_error", "quantize/layers", "memory/model_gib"):
        assert first[name] == pytest.approx(second[name], rel=1e-6)
