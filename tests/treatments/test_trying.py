"""A kernel that refuses a shape leaves that layer alone, with its reason, and the run goes on."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.quantization import quantize_

from src.records.record import Outcome
from src.treatments.layers import capture_layers
from src.treatments.packed.tensor import handled
from src.treatments.packed.uintx import UintxTensor
from src.treatments.trying import is_refusal, refused_layers
from src.workloads.workload import Workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

HERE = __name__
BLOCK = (*SMALL_FLUX, "resolution=64", "target=block")
CUBLAS = (
    "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic( ltHandle, ...)`"
)


class Picky(UintxTensor):
    """A weight whose kernel takes at least so many rows, as cuBLAS' row-wise float8 with a bias."""

    calls: ClassVar[list] = []
    message = CUBLAS

    def linear(self, x, bias=None):
        self.calls.append(tuple(x.shape))
        if x.numel() // x.shape[-1] < 8:
            raise RuntimeError(f"{self.message}\nat the second line\n")
        return super().linear(x, bias)


@dataclass
class PickyConfig(AOBaseConfig):
    bits: int
    group_size: int
    set_inductor_config: bool = False


handled(PickyConfig, Picky, lambda weight, config: Picky.from_hp(weight, config.bits, config.group_size))
PICKY = ("quant=uint4wo", f"quant.config._target_={HERE}.PickyConfig")


@pytest.fixture(autouse=True)
def _nothing_called():
    Picky.calls.clear()


def layers(tmp_path):
    return json.loads((tmp_path / "run" / "layers.json").read_text())


def test_the_refused_layers_are_left_alone_and_the_others_are_not(compose, execute_run, tmp_path):
    record = execute_run(compose(*BLOCK, *PICKY))
    assert record.outcome is Outcome.OK, record.reason
    rows = layers(tmp_path)
    refused = [row for row in rows if row["M"] < 8]
    assert 0 < len(refused) < len(rows)
    for row in refused:
        shape = f"M={row['M']}, K={row['K']}, N={row['N']}"
        assert (row["scheme"], row["reason"]) == ("", f"its kernel refuses {shape}: {CUBLAS}")
    assert {row["scheme"] for row in rows if row["M"] >= 8} == {"uint4wo"}
    assert record.metrics["quantize/layers"] == len(rows) - len(refused)


def test_each_distinct_shape_is_tried_once(compose, execute_run, tmp_path):
    record = execute_run(compose(*BLOCK, *PICKY, "quant.layers.max_m=7"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert CUBLAS in record.reason
    rows = [row for row in layers(tmp_path) if row["M"] < 8]
    assert sorted(Picky.calls) == sorted({(row["M"], row["K"]) for row in rows})


class Twice(nn.Module):
    """A Linear that is called with 16 rows and with 4."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 32, dtype=torch.bfloat16)

    def forward(self, x):
        return self.layer(x), self.layer(x[:4])


def test_each_number_of_rows_is_tried(cpu):
    workload = Workload(Twice(), (torch.ones(16, 64, dtype=torch.bfloat16),), {})
    rows, _ = capture_layers(workload)
    holder = nn.ModuleDict()

    def quantize(_, layer):
        holder["layer"] = layer
        quantize_(holder, PickyConfig(4, 32))
        return holder["layer"]

    refused = refused_layers(workload, rows, cpu, quantize)
    assert refused == {"layer": f"its kernel refuses M=4, K=64, N=32: {CUBLAS}"}


@pytest.mark.parametrize("where", ["cpu", "streamed"])
def test_wherever_the_weights_are_quantized(compose, execute_run, tmp_path, where):
    record = execute_run(compose(*BLOCK, *PICKY, f"quant.where={where}"))
    assert record.outcome is Outcome.OK, record.reason
    assert all(row["reason"].startswith("its kernel refuses") for row in layers(tmp_path) if row["M"] < 8)


def test_a_real_kernel_that_refuses(compose, execute_run):
    """torch's int4 kernel for the CPU, where the scheme's file does not say what it takes."""
    anything = ("quant=int4wo", "quant.per_device.cpu.requires.n_multiple=1", "model.dims.N=24")
    record = execute_run(compose(*SMALL_LINEAR, *anything))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "its kernel refuses M=16, K=256, N=24: " in record.reason


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (CUBLAS, True),
        ("self.size(0) needs to be greater than 16, but got 1", True),
        ("Expected trailing dimension of mat1 to be divisible by 16", True),
        ("Could not run 'aten::_int_mm' with arguments from the 'CUDA' backend.", True),
        ("Invalid scaling configuration.", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("CUDA error: device-side assert triggered; expected an index to be smaller", False),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", False),
        ("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)", False),
        ("", False),
    ],
)
def test_what_counts_as_a_refusal(message, refusal):
    assert is_refusal(RuntimeError(message)) is refusal


def test_any_other_error_still_ends_the_run(compose, execute_run, monkeypatch):
    monkeypatch.setattr(Picky, "message", "a bug")
    record = execute_run(compose(*BLOCK, *PICKY))
    assert (record.outcome, record.reason.startswith("RuntimeError: a bug")) == (Outcome.FAILED, True)


def test_the_runs_own_random_numbers_stay_as_they_are(compose, execute_run):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with_trials = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert torch.equal(torch.get_rng_state(), state)
    without = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "quant.tries_layers=false"))
    assert with_trials.metrics["quality/sqnr_db"] == without.metrics["quality/sqnr_db"]
    assert "try layers" in with_trials.phases_s
    assert "try layers" not in without.phases_s


def test_where_quantizing_takes_minutes_no_layer_is_tried(compose):
    assert not compose("quant=codebook").quant.tries_layers
