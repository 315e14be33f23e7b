"""The packed formats on a real CUDA device; skipped where there is none."""

import pytest
import torch
from torch import nn
from torchao.quantization import quantize_

from src.treatments.packed.fpx import FpxWeightOnlyConfig
from src.treatments.packed.uintx import PackedUintxWeightOnlyConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CONFIGS = [
    *(PackedUintxWeightOnlyConfig(bits) for bits in range(1, 8)),
    *(FpxWeightOnlyConfig(e, m) for e, m in [(1, 1), (2, 1), (3, 2), (2, 3), (7, 0), (1, 6), (4, 3)]),
]


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
@torch.no_grad()
def test_the_device_stores_and_reads_what_the_cpu_does(config):
    torch.manual_seed(0)
    here = nn.Linear(512, 256, bias=False, dtype=torch.bfloat16)
    there = nn.Linear(512, 256, bias=False, dtype=torch.bfloat16, device="cuda")
    there.load_state_dict(here.state_dict())
    quantize_(here, config)
    quantize_(there, config)
    close = (here.weight.dequantize() == there.weight.dequantize().cpu()).float().mean()
    assert close > 0.999  # a division may round the other way
    moved = here.to("cuda").weight
    assert moved.qdata.is_cuda
    compiled = torch.compile(lambda weight: weight.dequantize(), fullgraph=True, dynamic=False)
    assert torch.equal(compiled(moved), moved.dequantize())


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("quant", ["uint4wo", "uint7wo", "fp6_e3m2"])
def test_a_run(compose, execute_run, quant, mode):
    linear = ("model=linear", "gpu=auto", "measure.budget_s=1", "model.dims.M=512")
    record = execute_run(compose(*linear, f"compile={mode}", f"quant={quant}"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["compile/graph_breaks"] == record.metrics["compile/recompiles"] == 0
    assert record.metrics["quality/sqnr_db"] > 15
