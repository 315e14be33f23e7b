"""Emulated schemes: quality without a verdict, and nothing of torchao changed behind."""

from unittest.mock import patch

import pytest
import torch
from torchao.quantization import quant_api

from src.analysis.runs.frame import compared, tidy
from src.launching.progress import result
from src.records.mlflow.points import points
from src.records.record import Outcome
from src.treatments.scheme import make_scheme
from tests.conftest import SMALL_LINEAR

CHECK = "torchao.quantization.quant_api._check_hardware_support"


@pytest.mark.parametrize("quant", ["mxfp8", "mxfp4", "float8_e4m3_row"])
def test_quality_without_a_verdict(compose, execute_run, quant, tmp_path):
    own = quant_api._check_hardware_support
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}", "quant.emulate=true"))
    assert (record.outcome, record.verdict) == (Outcome.OK, "emulated"), record.reason
    assert "so only the quality counts" in record.reason
    assert f"{quant} needs a cuda device" in record.reason
    assert record.remedy
    assert record.metrics["quality/sqnr_db"] > 8
    assert record.metrics["latency/baseline_median_ms"] > 0
    assert record.metrics["emulated/latency/median_ms"] > 0
    assert not [name for name in record.metrics if name.startswith(("speedup/", "throughput/"))]
    assert "latency/median_ms" not in record.metrics
    assert record.details["withheld"] is False
    assert quant_api._check_hardware_support is own
    assert "emulated" in result(record)
    assert not [name for name, *_ in points(record, tmp_path / "run") if name.startswith("rounds/")]


@pytest.mark.parametrize(("quant", "emulates"), [("mxfp8", True), ("float8dq", False), ("nvfp4", False)])
def test_without_being_asked_it_is_unsupported_and_says_how_to_ask(compose, execute_run, quant, emulates):
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert ("quant.emulate=true" in record.remedy) == emulates


def test_what_runs_natively_is_not_emulated(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "quant.emulate=true"))
    assert record.outcome is Outcome.OK
    assert record.verdict != "emulated"
    assert "speedup/ratio" in record.metrics


def test_the_analysis_compares_no_emulated_run(emulated_run):
    frame = tidy([emulated_run], margin=0.02)
    assert frame["outcome"].tolist() == ["emulated"]
    assert frame["verdict"].tolist() == [""]
    assert frame["finding"].tolist() == [True]
    assert frame["quality/sqnr_db"].tolist() == [25.0]
    assert compared(frame).empty


@pytest.fixture
def emulated_run():
    """As the tracker gives it; it has a speedup, as if a record had been written by hand."""
    from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

    tags = {"run_key": "k", "outcome": "ok", "verdict": "emulated", "device": "a CPU", "attempt": "1"}
    metrics = {"speedup/ratio": 2.0, "speedup/ci_low": 1.9, "speedup/ci_high": 2.1, "quality/sqnr_db": 25.0}
    params = {"model": "linear", "quant": "mxfp8", "batch": "1", "resolution": "0"}
    info = RunInfo(
        run_id="r",
        experiment_id="1",
        user_id="",
        status="FINISHED",
        start_time=0,
        end_time=1,
        lifecycle_stage="",
    )
    data = RunData(
        [Metric(name, value, 0, 0) for name, value in metrics.items()],
        [Param(name, value) for name, value in params.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    return Run(info, data)


@torch.no_grad()
def test_rowwise_float8_is_what_the_formula_says(compose, cpu):
    """Against float8 rounding done by hand: nearer to that than the scheme itself is to bf16."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, 64, generator=generator).to(torch.bfloat16) for rows in (16, 32))

    def rounded(t):
        scale = t.abs().amax(dim=1, keepdim=True).float() / 448
        return (t.float() / scale).to(torch.float8_e4m3fn).float() * scale

    layer = torch.nn.Linear(64, 32, bias=False, dtype=torch.bfloat16)
    layer.weight.copy_(w)
    with patch(CHECK, lambda *_, **__: None):
        quant_api.quantize_(layer, make_scheme(compose("quant=float8_e4m3_row").quant).torchao_config(cpu))
    output, by_hand, exact = layer(x).float(), rounded(x) @ rounded(w).T, x.float() @ w.float().T
    assert (output - by_hand).norm() < 0.5 * (output - exact).norm()
