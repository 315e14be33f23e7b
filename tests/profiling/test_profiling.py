"""Traces, kernel tables and memory snapshots: real calls on the CPU, a device's trace written by hand."""

import csv
import gzip
import json
import pickle

import pytest
import torch
from torch import nn
from torch.cuda import _memory_viz as viewer
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from src.compilation.scopes import compiled_apart, compiler_counts
from src.devices.device import Device
from src.launching.standing import standing
from src.profiling.kernels import (
    Kernel,
    KernelRow,
    dominant_kernel,
    kernel_metrics,
    kernel_table,
    kind_of,
    read_profile,
)
from src.profiling.snapshots import write_snapshot
from src.profiling.trace import write_trace
from src.records.mlflow.content import artifacts
from src.records.record import Outcome
from src.records.store import next_attempt, run_folder
from src.workloads.workload import Whole
from tests.conftest import SMALL_LINEAR, identity, synthetic_rounds

FILES = [
    "kernels.csv",
    "memory_baseline.pickle",
    "memory_treated.pickle",
    "trace_baseline.json.gz",
    "trace_treated.json.gz",
]
GELU_FUSED = "cpp_fused__to_copy_add_amax_amin_clamp_div_gelu_mul_view"


@pytest.mark.parametrize(
    ("name", "types", "kind"),
    [
        ("aten::addmm", "BFloat16, BFloat16, BFloat16", "matmul"),
        ("aten::_int_mm", "unsigned char, signed char", "matmul"),
        ("aten::_scaled_mm", "Float8_e4m3fn, Float8_e4m3fn", "matmul"),
        ("aten::_weight_int8pack_mm", "BFloat16, signed char, BFloat16", "matmul"),
        ("aten::_weight_int4pack_mm", "BFloat16, int", "matmul"),
        ("mkldnn::_linear_pointwise", "BFloat16", "matmul"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_TNT", "", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "", "matmul"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn", "", "matmul"),
        ("void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<...> >(Params)", "", "matmul"),
        ("void at::native::tinygemm_m16n8k16_chunk_kernel<...>", "", "matmul"),
        ("triton_tem_fused_mm", "", "matmul"),
        ("triton_tem_fused__scaled_mm_gelu", "", "matmul"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "BFloat16", "attention"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<...>>", "", "attention"),
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<...> >(Params)", "", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::Params)", "", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x64x128", "", "attention"),
        ("torchao::quantize_affine", "BFloat16, float, signed char", "quantize"),
        ("aten::copy_", "BFloat16, signed char", "quantize"),
        ("aten::copy_", "Float8_e4m3fn, BFloat16", "quantize"),
        ("triton_poi_fused__to_copy_mul", "", "quantize"),
        ("triton_red_fused__to_copy_abs_amax_clamp_div_mul_reciprocal", "", "quantize"),
        ("cpp_fused__to_copy_add_amax_amin_clamp_div_maximum_neg_sub_sum_t_view_zeros_like", "", "quantize"),
        ("triton_red_fused_abs_max", "", "quantize"),
        ("triton_poi_fused__scaled_mm__to_copy_add_clamp_mul_view", "", "quantize"),
        (GELU_FUSED, "", "quantize_fused"),
        ("triton_red_fused__to_copy_abs_amax_clamp_native_layer_norm_mul", "", "quantize_fused"),
        ("triton_poi_fused_addmm_gelu", "", "other"),
        ("cpp_fused_gelu_view", "", "other"),
        ("aten::mul", "BFloat16, BFloat16", "other"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<...>", "", "other"),
        ("Memcpy DtoD (Device -> Device)", "", "other"),
    ],
)
def test_the_kind_of_a_kernel_of_the_treated_arm(name, types, kind):
    assert kind_of(Kernel(name, types, op="", start_us=0, self_us=1), new=True) == kind


@pytest.mark.parametrize("name", ["cpp_fused__to_copy_mean_mul_pow_rsqrt", "triton_poi_fused__to_copy_mul"])
def test_what_the_baseline_does_too_is_no_quantization(name):
    assert kind_of(Kernel(name, "", op="", start_us=0, self_us=1), new=False) == "other"


def test_a_device_s_kernels_take_the_kind_of_their_op_where_their_name_says_nothing(tmp_path):
    step = {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", "tid": 1, "ts": 0.0, "dur": 100.0}
    op = {"ph": "X", "cat": "cpu_op", "name": "aten::copy_", "tid": 1, "ts": 1.0, "dur": 9.0}
    op["args"] = {"External id": 7, "Input type": ["c10::BFloat16", "c10::Float8_e4m3fn", "Scalar"]}
    kernel = {"ph": "X", "cat": "kernel", "name": "void at::native::elementwise_kernel<128, 4>", "tid": 7}
    gemm = kernel | {"name": "nvjet_tst_64x8", "ts": 40.0, "dur": 30.0, "args": {"External id": 9}}
    cast = kernel | {"ts": 20.0, "dur": 10.0, "args": {"External id": 7}}
    copied = cast | {"cat": "gpu_memcpy", "name": "Memcpy DtoH", "ts": 65.0, "dur": 15.0, "args": {}}
    shadow = step | {"cat": "gpu_user_annotation", "ts": 20.0, "dur": 60.0}  # the step as the device sees it
    arms = {
        "baseline": read_profile(_trace(tmp_path / "b.json.gz", [step, gemm]), on_device=True),
        "treated": read_profile(
            _trace(tmp_path / "t.json.gz", [step, op, gemm, cast, copied, shadow]), on_device=True
        ),
    }
    rows = kernel_table(arms)
    assert [(row.arm, row.kind, row.self_ms) for row in rows] == [
        ("baseline", "matmul", 0.03),
        ("treated", "matmul", 0.03),
        ("treated", "other", 0.015),
        ("treated", "quantize", 0.01),
    ]
    metrics = kernel_metrics(rows, arms)
    assert metrics["profile/total_ms"] == 0.055
    assert metrics["profile/quantize_ms"] == 0.01
    assert metrics["profile/idle_share"] == 0.5  # 20-30 and 40-80 of 0-100 are covered
    assert metrics["profile/baseline_idle_share"] == 0.7


def test_a_device_trace_without_kernels_is_an_error(tmp_path):
    step = {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", "tid": 1, "ts": 0.0, "dur": 1.0}
    with pytest.raises(ValueError, match="no kernels"):
        read_profile(_trace(tmp_path / "empty.json.gz", [step]), on_device=True)


def test_a_cpu_s_time_is_that_of_its_ops_without_what_they_called_and_without_python(tmp_path, cpu):
    layer, x = nn.Sequential(nn.Linear(64, 64), nn.GELU()), torch.randn(8, 64)
    trace = tmp_path / "trace.json.gz"
    with torch.no_grad():
        write_trace(lambda: layer(x), cpu, trace)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    linear = [e for e in events if e["name"] in ("aten::linear", "aten::addmm")]
    assert len(linear) == 2  # of the warm-up call there is nothing
    profile = read_profile(trace, on_device=False)
    by_name = {kernel.name: kernel.self_us for kernel in profile.kernels}
    outer = next(e["dur"] for e in linear if e["name"] == "aten::linear")
    assert by_name["aten::linear"] < outer
    assert by_name["aten::linear"] + by_name["aten::addmm"] <= outer * 1.001
    assert 0 < profile.idle_share < 1


def test_inductor_s_kernels_are_seen_apart_and_leave_no_trace(tmp_path, cpu):
    layer, x = Whole(nn.Sequential(nn.Linear(64, 64), nn.GELU())), torch.randn(8, 64)
    layer.compile(fullgraph=True, dynamic=False)

    def fused():
        write_trace(lambda: layer(x), cpu, tmp_path / "trace.json.gz")
        names = {kernel.name for kernel in read_profile(tmp_path / "trace.json.gz", on_device=False).kernels}
        return {name for name in names if "fused" in name}

    with torch.no_grad():
        layer(x)
        before = compiler_counts()
        with compiled_apart({"cpp.enable_kernel_profile": True}, again=lambda: layer(x)):
            assert any("gelu" in name for name in fused())
        assert compiler_counts() == before
        assert not fused()
        assert compiler_counts() == before  # nothing was left to compile


def test_a_cpu_snapshot_is_what_torch_s_viewer_reads(tmp_path, cpu):
    module, x = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256)), torch.randn(32, 256)
    quantize_(module, Int8WeightOnlyConfig(set_inductor_config=False))
    path = tmp_path / "memory.pickle"
    with torch.no_grad():
        write_snapshot(lambda: module(x), module, cpu, path)
    content = path.read_bytes()
    assert content[:2] == b"\x80\x04"  # the viewer refuses newer protocols
    snapshot = pickle.loads(content)
    (events,) = snapshot["device_traces"]
    assert {event["action"] for event in events} == {"alloc", "free_completed"}
    frames = [frame["name"] for event in events for frame in event["frames"]]
    assert "aten::gelu" in frames
    assert any(name.startswith("nn.Module: GELU") for name in frames)
    for segment in snapshot["segments"]:
        assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]
        assert segment["address"] == segment["blocks"][0]["address"]
    living = [b for s in snapshot["segments"] for b in s["blocks"] if b["state"] == "active_allocated"]
    names = {block["frames"][0]["name"]: block["size"] for block in living}
    assert names["0.weight.qdata"] == 256 * 512
    assert sum(block["size"] for block in living if "aten::mul" not in str(block["frames"])) >= 2 * 256 * 512
    held = {(s["address"], s["address"] + s["total_size"]) for s in snapshot["segments"]}
    assert all(any(start <= event["addr"] < end for start, end in held) for event in events)
    assert "0.weight.qdata" in viewer.memory(snapshot, format_flamegraph=str)
    assert "active_allocated" in viewer.segments(snapshot, format_flamegraph=str)
    assert "snapshot.pickle" in viewer.trace_plot(snapshot)
    assert "Allocator State History" in viewer.segment_plot(snapshot)


class FakeCudaMemory:
    """What this machine cannot have: the allocator's history of a CUDA device."""

    def __init__(self):
        self.calls = []

    def _record_memory_history(self, enabled, **_):
        self.calls.append(enabled)

    def _snapshot(self):
        self.calls.append("snapshot")
        return {"device_traces": [[]], "segments": []}


@pytest.mark.parametrize("fails", [False, True])
def test_the_history_of_a_cuda_device_is_switched_off_again(tmp_path, monkeypatch, fails):
    memory = FakeCudaMemory()
    monkeypatch.setattr("torch.cuda.memory", memory)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)

    def call():
        if fails:
            raise RuntimeError("CUDA out of memory")

    device, path = Device("cuda", "a GPU", 80.0), tmp_path / "memory.pickle"
    if fails:
        with pytest.raises(RuntimeError):
            write_snapshot(call, nn.Identity(), device, path)
    else:
        write_snapshot(call, nn.Identity(), device, path)
    assert memory.calls == (["all", None] if fails else ["all", "snapshot", None])
    assert path.exists() is not fails


@pytest.mark.parametrize("pairing", ["interleaved", "in_turn"])
def test_a_run_with_a_profile(compose, execute_run, tmp_path, pairing):
    options = ("quant=int8dq", f"measure.pairing={pairing}", "measure.profile=true")
    record = execute_run(compose(*SMALL_LINEAR, *options))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["profile"] == {"files": FILES}
    assert record.phases_s["profile"] > 0
    folder = tmp_path / "run"
    assert set(FILES) <= {file.name for file in artifacts(folder)}
    with (folder / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    kernels = {(row["arm"], row["kind"], row["kernel"]) for row in rows}
    assert ("treated", "matmul", "aten::_int_mm") in kernels
    assert ("baseline", "matmul", "aten::mm") in kernels
    assert not [row for row in rows if row["arm"] == "baseline" and row["kind"].startswith("quantize")]
    for arm, prefix in (("baseline", "profile/baseline_"), ("treated", "profile/")):
        mine = [row for row in rows if row["arm"] == arm]
        assert sum(float(row["share"]) for row in mine) == pytest.approx(1, abs=1e-4)
        total_ms = sum(float(row["self_ms"]) for row in mine)
        assert record.metrics[f"{prefix}total_ms"] == pytest.approx(total_ms, abs=1e-4)
    assert record.metrics["profile/quantize_ms"] > 0
    assert record.metrics["profile/baseline_quantize_ms"] == 0
    for file in FILES[3:]:
        trace = json.loads(gzip.decompress((folder / file).read_bytes()))
        assert sum(event["name"].startswith("ProfilerStep#") for event in trace["traceEvents"]) == 1
        assert ("aten::_int_mm" in str(trace)) is (file == "trace_treated.json.gz")


@pytest.mark.usefixtures("cold_cache")
def test_what_a_profile_compiles_is_not_of_the_run(compose, execute_run):
    """Two graphs, one an arm, as without a profile."""
    options = (*SMALL_LINEAR, "compile=default", "quant=int8dq", "measure.pairing=in_turn")
    metrics = execute_run(compose(*options, "measure.profile=true")).metrics
    assert metrics["profile/quantize_ms"] > 0
    told = {name.removeprefix("compile/"): n for name, n in metrics.items() if name.startswith("compile/")}
    assert min(told.pop(name) for name in ("baseline_cold_s", "cold_s", "warm_s")) > 0
    assert told == {
        "graph_breaks": 0,
        "recompiles": 0,
        "cache_hits": 0,
        "cache_misses": 2,
    }


def test_a_profile_that_fails_leaves_the_numbers(compose, execute_run, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("CUPTI: no permission")

    monkeypatch.setattr("src.tasks.arms.profiled.write_snapshot", fail)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "measure.profile=true"))
    assert record.outcome is Outcome.OK
    assert record.verdict
    assert record.metrics["latency/median_ms"] > 0
    assert "CUPTI: no permission" in record.details["profile"]["failed"]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "details", "asked", "done"),
    [
        (Outcome.OK, {}, "false", True),
        (Outcome.OK, {}, "true", False),
        (Outcome.OK, {"profile": {"failed": "CUPTI"}}, "true", False),
        (Outcome.OK, {"profile": {"files": FILES}}, "true", True),
        (Outcome.OK, {"profile": {"files": FILES}}, "false", True),
        (Outcome.UNSUPPORTED, {}, "true", True),
    ],
)
def test_what_was_measured_without_a_profile_is_not_done_when_one_is_asked(
    compose, tmp_path, outcome, details, asked, done
):
    cfg = compose(*SMALL_LINEAR, f"measure.profile={asked}", f"outputs={tmp_path}")
    record = identity(cfg)
    record.outcome, record.details = outcome, details
    record.write(run_folder(tmp_path, record.run_key, next_attempt(tmp_path, record.run_key)))
    assert (standing(tmp_path, record.run_key, cfg, print) is not None) is done


def _trace(path, events):
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    return path


def test_the_kernel_that_a_treatment_is_slow_by():
    def row(arm, kernel, share):
        return KernelRow(arm, "matmul", kernel, "", 1, 100 * share, share)

    rows = [row("baseline", "gemm", 0.9), row("treated", "gemm", 0.5), row("treated", "int8pack", 0.45)]
    assert dominant_kernel(rows) == "int8pack takes 45% of the time in kernels, 45 ms a call"
    assert dominant_kernel([*rows[:2], row("treated", "cast", 0.2)]) == ""
    assert dominant_kernel(rows[:2]) == ""


@pytest.mark.parametrize(("mode", "reason"), [("default", "for a reason"), ("none", "")])
def test_a_run_that_hurts_says_what_is_known_of_the_scheme(compose, execute_run, monkeypatch, mode, reason):
    monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(0.5))
    known = ("+quant.slow_compiled={cpu: for a reason}", f"compile={mode}", "compile.backend=eager")
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", *known))
    assert (record.verdict, record.reason) == ("hurts", reason)
