"""Static scales come from the run's own inputs."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchao.quantization import quantize_

from src.outcomes import RunEndedError
from src.treatments.layers import capture_layers
from src.treatments.observing import observe_inputs
from src.treatments.scheme import make_scheme
from src.workloads.workload import Whole, Workload
from tests.conftest import SMALL_FLUX, int8_matmul_saturates
from tests.treatments.conftest import assert_same


class Twice(nn.Module):
    """One Linear that is called with a matrix and with a batch of them, one with a matrix only."""

    def __init__(self, both=True):
        super().__init__()
        self.both = both
        self.mixed, self.plain = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        y = self.mixed(x)
        return self.plain(y + self.mixed(x[None])[0] if self.both else y)


@pytest.fixture
def calibrated(compose, run_context):
    """calibrated(workload): int8_static searched and applied; returns the rows."""

    @torch.no_grad()
    def treated(workload, *overrides):
        run = run_context(compose("quant=int8_static", *overrides))
        rows, _ = capture_layers(workload)
        scheme = make_scheme(run.cfg.quant)
        scheme.check(run.device, "bfloat16")
        scheme.search(workload, rows, run)
        assert type(next(workload.module.parameters())) is nn.Parameter
        scheme.apply(workload, rows, run)
        return rows

    return treated


def bf16(module, *shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    return Workload(module.to(torch.bfloat16).requires_grad_(False), (x,), {})


@pytest.mark.parametrize("shape", [(8, 32), (2, 8, 32), (2, 2, 8, 32)])
def test_the_scale_is_the_largest_input_over_its_quantized_value(calibrated, shape):
    workload = bf16(Whole(nn.Linear(32, 64)), *shape)
    (row,) = calibrated(workload)
    scale = workload.module.inner.weight.act_quant_scale
    assert row.scheme == "int8_static"
    assert scale.shape == torch.Size([1] * len(shape))
    assert scale.item() == pytest.approx(workload.args[0].abs().max().item() / 127)


def test_the_output_is_close(calibrated):
    if int8_matmul_saturates():
        pytest.skip("torch._int_mm saturates on this CPU")
    workload = bf16(Whole(nn.Linear(256, 64)), 64, 256)
    before = workload.call().float()
    calibrated(workload)
    error = workload.call().float() - before
    assert 20 * torch.log10(before.norm() / error.norm()) > 25


def test_inputs_of_all_zeros_have_a_scale(calibrated):
    workload = bf16(Whole(nn.Linear(32, 64, bias=False)), 8, 32)
    workload.args[0].zero_()
    calibrated(workload)
    assert torch.equal(workload.call(), torch.zeros(8, 64, dtype=torch.bfloat16))


def test_a_layer_called_with_different_dimensions_is_left_alone(calibrated):
    rows = calibrated(bf16(Twice(), 8, 32))
    assert {row.fqn: (row.scheme, row.reason) for row in rows} == {
        "mixed": ("", "called with inputs of 2 and 3 dimensions"),
        "plain": ("int8_static", ""),
    }


def test_no_layer_left(calibrated):
    with pytest.raises(RunEndedError, match=r"fits none of the 2 Linear layers .*plain"):
        calibrated(bf16(Twice(), 8, 32), "quant.layers.include=[mixed]")


def test_a_kernel_for_matrices_leaves_other_layers_alone(compose, run_context):
    run = run_context(compose("quant=int8wo", "quant.requires.input_dims=2"))
    workload = bf16(Twice(), 8, 32)
    rows, _ = capture_layers(workload)
    scheme = make_scheme(run.cfg.quant)
    scheme.search(workload, rows, run)
    scheme.apply(workload, rows, run)
    assert {row.fqn: row.reason for row in rows} == {
        "mixed": "called with inputs of 3 dimensions, not 2",
        "plain": "",
    }


def test_inputs_are_seen_once_over_all_calls():
    workload = bf16(Twice(), 8, 32)
    seen = observe_inputs(workload, ["mixed"])
    assert set(seen) == {"mixed"}
    assert seen["mixed"].amax == workload.args[0].abs().max()
    assert seen["mixed"].dims == {2, 3}
    assert not any(part._forward_pre_hooks for part in workload.module.modules())


def test_a_real_model_is_calibrated_layer_by_layer(compose, execute_run):
    record = execute_run(compose(*SMALL_FLUX, "target=block", "quant=int8_static"))
    assert record.outcome == "ok", record.reason
    assert record.metrics["quantize/layers"] == 14
    assert record.metrics["quality/sqnr_db"] > 15
    assert record.phases_s["calibrate"] > 0


# ---- where


@pytest.mark.parametrize("quant", ["int8_static", "float8_static"])
@pytest.mark.parametrize(("where", "place"), [("device", "meta"), ("streamed", "meta"), ("cpu", "cpu")])
def test_a_scale_lies_where_the_weight_is_quantized_and_moves_with_it(compose, quant, where, place):
    """The meta device stands for CUDA: a scale that stayed behind would be seen."""
    scheme = make_scheme(compose(f"quant={quant}", f"quant.where={where}").quant)
    layer = Whole(nn.Linear(32, 64))
    workload = bf16(layer, 8, 32)
    rows, _ = capture_layers(workload)
    scheme.inputs = observe_inputs(workload, [row.fqn for row in rows])
    device = SimpleNamespace(kind="cuda", torch=torch.device("meta"))
    config = scheme.configs(rows, device)["inner"]
    assert config.act_quant_scale.device.type == place
    if where != "cpu":
        return
    quantize_(layer, config)
    there = layer.to("meta").inner.weight
    assert {getattr(there, name).device.type for name in there.__tensor_flatten__()[0]} == {"meta"}
    assert "act_quant_scale" in there.__tensor_flatten__()[0]


def test_inputs_of_a_compiled_workload_are_seen():
    workload = bf16(Twice(), 8, 32)
    workload.module.compile(backend="eager")
    workload.call()
    assert observe_inputs(workload, ["mixed"])["mixed"].dims == {2, 3}


def test_inputs_of_a_workload_that_runs_a_package_are_seen():
    """A package calls no hooks, and no stance of the compiler's turns it off."""
    workload, package = bf16(Twice(), 8, 32), lambda *_: None
    workload.module._compiled_call_impl = package
    assert observe_inputs(workload, ["mixed"])["mixed"].dims == {2, 3}
    assert {row.fqn for row in capture_layers(workload)[0]} == {"mixed", "plain"}
    assert workload.module._compiled_call_impl is package


@pytest.mark.parametrize("where", ["cpu", "streamed"])
@pytest.mark.parametrize(
    "more",
    [("measure.pairing=in_turn",), ("compile=default", "compile.backend=eager")],
    ids=["the baseline's weights are gone", "the baseline is compiled"],
)
def test_scales_are_the_same_elsewhere(make, where, more):
    small = (*SMALL_FLUX, "resolution=64", "target=block", "quant=int8_static", *more)
    assert_same(make(*small), make(*small, f"quant.where={where}"))
