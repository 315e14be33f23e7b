"""Treatments as shipped and at their best, on a real CUDA device; skipped where there is none."""

import json

import pytest
import torch
from torch import nn
from torch._inductor.utils import run_and_get_code
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from src.compilation.inductor import recommended_options
from src.compilation.scopes import compiler_options
from src.config.schema.root import CompileConf
from src.treatments.packed.int8 import Int8ScaledWeightOnlyConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LINEAR = ("model=linear", "gpu=auto", "compile=default", "measure.budget_s=1", "measure.warm_compile=false")


def generated(config, m, compose, quant):
    layer = nn.Linear(1024, 512, dtype=torch.bfloat16, device="cuda").requires_grad_(False)
    quantize_(layer, config)
    x = torch.randn(m, 1024, dtype=torch.bfloat16, device="cuda")
    conf = CompileConf(name="x")
    with torch.no_grad(), compiler_options(conf, compose(f"quant={quant}").quant, "cuda"):
        output, code = run_and_get_code(torch.compile(layer, fullgraph=True), x)
        assert torch.allclose(output, layer(x), atol=5e-2, rtol=5e-2)
    return "\n".join(code)


@pytest.mark.parametrize("m", [1, 32, 1024])
@pytest.mark.usefixtures("cold_cache")  # code is seen when it is made
def test_int8_weights_are_compiled_without_the_packed_product(compose, m):
    shipped = generated(Int8WeightOnlyConfig(set_inductor_config=False), m, compose, "int8wo")
    ours = generated(Int8ScaledWeightOnlyConfig(), m, compose, "int8wo_fused")
    assert "_weight_int8pack_mm" in shipped
    assert "_weight_int8pack_mm" not in ours


@pytest.mark.usefixtures("cold_cache")
def test_int8_weights_of_one_row_are_read_by_one_kernel(compose):
    """A reduction that reads int8: the weights are never written in bf16."""
    code = generated(Int8ScaledWeightOnlyConfig(), 1, compose, "int8wo_fused")
    assert "extern_kernels.mm" not in code
    assert "*i8" in code


def test_int8dq_with_torchaos_own_settings_in_both_arms(compose, execute_run):
    record = execute_run(compose(*LINEAR, "model.dims.M=1024", "quant=int8dq", "compile.tuning=recommended"))
    assert record.outcome == "ok", record.reason
    got = record.details["inductor"]
    assert got["baseline"] == got["treated"]
    assert recommended_options().items() <= got["treated"].items()


@pytest.mark.parametrize("m", [1, 32])
def test_a_shape_that_the_kernel_refuses_ends_no_run(compose, execute_run, tmp_path, m):
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs float8 tensor cores")
    shape = (f"model.dims.M={m}", "model.dims.K=12288", "model.dims.N=3072")
    record = execute_run(compose(*LINEAR, *shape, "quant=float8_e4m3_row"))
    (row,) = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert record.outcome == ("ok" if row["scheme"] else "unsupported"), record.reason
    if not row["scheme"]:
        assert row["reason"].startswith(f"its kernel refuses M={m}, K=12288, N=3072: ")


def test_autoquant_is_no_slower_than_the_best_scheme_it_looked_at(compose, execute_run):
    """By its own looks; what it applies is measured in full, and said beside what was predicted."""
    block = (
        "model=flux-tiny",
        "gpu=auto",
        "compile=regional",
        "measure.budget_s=2",
        "quant.layer_budget_s=0.2",
    )
    record = execute_run(compose(*block, "quant=autoquant"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["autoquant/predicted_speedup"] > 0.9  # a uniform scheme is looked at from 0.95 on
    assert record.details["autoquant"]["trials_timed_by"] in ("host", "layer")
