"""Inductor's options as part of a treatment, and what inductor makes of int8 weights."""

import pytest
import torch
import torch._inductor.config as inductor_config
from torch import nn
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.utils import run_and_get_code
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from torchao.quantization.utils import recommended_inductor_config_setter

from src.checks.validation import check_values
from src.compilation.inductor import asked_options, kept_options, merged_options, recommended_options
from src.compilation.scopes import compiler_options
from src.config.errors import ConfigError
from src.config.schema.root import CompileConf
from src.records.record import Outcome
from src.treatments.packed.int8 import Int8ScaledWeightOnlyConfig, ScaledInt8Tensor
from tests.conftest import SMALL_LINEAR

RECOMMENDED = CompileConf(name="x", tuning="recommended")


def options():
    return inductor_config.save_config_portable()


# ---- options


def test_recommended_options_are_read_off_torchaos_own_setter():
    before = options()
    found = recommended_options()
    assert options() == before
    with inductor_config.patch(found):
        with_ours = options()
        recommended_inductor_config_setter()  # has nothing left to change
        assert options() == with_ours
    assert found["force_fuse_int_mm_with_mul"] is found["coordinate_descent_tuning"] is True


def test_both_arms_get_them_and_the_record_says_so(compose, execute_run, monkeypatch):
    monkeypatch.setattr("src.tasks.arms.packaged.compile_module", lambda *_: None)  # takes seconds
    cfg = compose(*SMALL_LINEAR, "quant=int8dq", "compile=default", "compile.tuning=recommended")
    before = options()
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert options() == before
    got = record.details["inductor"]
    assert got["baseline"] == got["treated"] == {**got["baseline"], **recommended_options()}


def test_what_a_scheme_needs_is_set_for_both_arms_on_its_device_only(compose):
    quant, conf = compose("quant=int8wo_fused").quant, compose("compile=default").compile
    assert asked_options(conf, quant, "cpu") == {}
    needed = asked_options(conf, quant, "cuda")["quant.inductor"]
    assert needed["max_autotune_gemm"] is True
    with compiler_options(conf, quant, "cuda"):
        assert inductor_config.max_autotune_gemm is inductor_config.coordinate_descent_tuning is True
    assert asked_options(compose("compile=none").compile, quant, "cuda") == {}


def test_autoquant_asks_for_what_its_candidates_need(compose):
    cfg = compose("quant=autoquant", "+quant@quant.candidates.int8wo_fused=int8wo_fused", "compile=default")
    assert asked_options(cfg.compile, cfg.quant, "cuda")["quant.inductor"]["max_autotune_gemm"] is True


def test_the_users_own_options_come_last():
    conf = CompileConf(name="x", tuning="recommended", options={"coordinate_descent_tuning": False})
    assert merged_options(asked_options(conf))["coordinate_descent_tuning"] is False


def test_an_option_that_inductor_does_not_have():
    conf = CompileConf(name="x", options={"epilog_fusion": True})
    with pytest.raises(ConfigError, match=r"compile\.options\.epilog_fusion: torch's inductor has no such"):
        merged_options(asked_options(conf))


def test_what_torchao_sets_while_quantizing_does_not_last():
    before, layer = options(), nn.Linear(32, 32)
    with kept_options():
        quantize_(layer, Int8WeightOnlyConfig(set_inductor_config=True))
        assert options() != before
    assert options() == before


def test_settings_for_one_arm_are_refused(compose):
    with pytest.raises(ConfigError, match=r"set_inductor_config=true: .*compile\.tuning=recommended"):
        check_values(compose("quant=int8wo", "quant.config.set_inductor_config=true"))
    with pytest.raises(ConfigError, match=r"compile\.tuning=recommended: compile=none compiles nothing"):
        check_values(compose("compile=none", "compile.tuning=recommended"))


# ---- int8 weights


def quantized(config, k=64, n=96):
    layer = nn.Linear(k, n, dtype=torch.bfloat16).requires_grad_(False)
    quantize_(layer, config)
    return layer


def rewritten(config, device):
    """The operators of a quantized Linear after inductor's passes; nothing is run, and no device needed."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        weight = torch.empty(96, 64, dtype=torch.bfloat16, device=device)
        holder = nn.Linear(1, 1)
        holder.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(holder, config)
        quant = holder.weight.data
        names, attributes = quant.__tensor_flatten__()
        inner = [getattr(quant, name) for name in names]

        def linear(x, bias, *parts):
            rebuilt = type(quant).__tensor_unflatten__(
                dict(zip(names, parts, strict=True)), attributes, quant.shape, quant.stride()
            )
            return nn.functional.linear(x, rebuilt, bias)

        x = torch.empty(32, 64, dtype=torch.bfloat16, device=device)
        bias = torch.empty(96, dtype=torch.bfloat16, device=device)
        traced = make_fx(linear, decomposition_table=select_decomp_table())(x, bias, *inner)
    traced.graph.eliminate_dead_code()
    with V.set_fake_mode(mode):
        post_grad_passes(traced, True)
    return [node.target.__name__ for node in traced.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@torch.no_grad()
def test_inductor_rewrites_torchaos_int8wo_and_not_ours(device):
    shipped = rewritten(Int8WeightOnlyConfig(set_inductor_config=False), device)
    assert "woq_int8" in shipped, shipped  # lowers to aten._weight_int8pack_mm
    ours = rewritten(Int8ScaledWeightOnlyConfig(), device)
    assert "woq_int8" not in ours, ours
    product = ours.index("mm.default")
    # A cast is all that stands between the stored weights and the product: inductor's matmul fuses no more.
    assert [name for name in ours[:product] if name not in ("permute.default", "view.default")] == [
        "convert_element_type.default"
    ]


@torch.no_grad()
def test_the_generated_code_has_no_packed_product():
    x = torch.randn(32, 64, dtype=torch.bfloat16)
    codes = {}
    for config in (Int8WeightOnlyConfig(set_inductor_config=False), Int8ScaledWeightOnlyConfig()):
        layer = quantized(config)
        with inductor_config.patch(force_disable_caches=True):  # code that comes from the cache is not seen
            output, found = run_and_get_code(torch.compile(layer, fullgraph=True), x)
        codes[type(config)] = "\n".join(found)
        assert torch.allclose(output, layer(x), atol=2e-2, rtol=2e-2)
    assert "_weight_int8pack_mm" in codes[Int8WeightOnlyConfig]
    assert "_weight_int8pack_mm" not in codes[Int8ScaledWeightOnlyConfig]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@torch.no_grad()
def test_ours_holds_torchaos_codes_and_multiplies_as_exactly(dtype):
    weight, bias = torch.randn(96, 64).to(dtype), torch.randn(96).to(dtype)
    layers = []
    for config in (Int8WeightOnlyConfig(set_inductor_config=False), Int8ScaledWeightOnlyConfig()):
        layer = nn.Linear(64, 96, dtype=dtype)
        layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        quantize_(layer.requires_grad_(False), config)
        layers.append(layer)
    shipped, ours = layers
    assert isinstance(ours.weight, ScaledInt8Tensor)
    assert torch.equal(ours.weight.qdata, shipped.weight.qdata)
    x = torch.randn(2, 5, 64).to(dtype)
    exact = nn.functional.linear(
        x.double(), ours.weight.qdata.double() * ours.weight.scale.double().unsqueeze(1), bias.double()
    )
    errors = [(layer(x).double() - exact).norm() for layer in (ours, shipped)]
    assert ours(x).dtype is dtype
    assert errors[0] <= 1.2 * errors[1]  # of float16 0.89 to 1.08 times, by how numbers are rounded
