import pytest
import torch
from torch import nn

from src.config.schema.quant import LayersConf, RequiresConf
from src.treatments.layers import LayerRow, capture_layers, linear_shape, tally, unmatched, why_not
from src.workloads.workload import Whole, Workload, build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR


class Shared(nn.Module):
    """One Linear called twice with different M, one once by keyword, one never."""

    def __init__(self):
        super().__init__()
        self.often, self.once, self.never = nn.Linear(8, 4), nn.Linear(4, 2), nn.Linear(2, 1)

    def forward(self, x):
        short = self.often(x[:, :1])
        return self.once(input=self.often(x)), short


def test_rows_hold_the_largest_and_the_smallest_call_and_the_number_of_calls():
    rows, samples = capture_layers(Workload(Shared(), (torch.ones(2, 5, 8),), {}))
    rest = {"scheme": "", "reason": "", "component": "denoiser"}
    assert [row.as_dict() for row in rows] == [
        {"fqn": "often", "name": "often", "M": 10, "K": 8, "N": 4, "calls": 2, "least_m": 2, **rest},
        {"fqn": "once", "name": "once", "M": 10, "K": 4, "N": 2, "calls": 1, "least_m": 10, **rest},
    ]
    assert all(row.shape in samples for row in rows)
    assert {shape: tuple(x.shape) for shape, x in samples.items()} == {
        (2, 8, 4): (2, 8),
        (10, 8, 4): (10, 8),
        (10, 4, 2): (10, 4),
    }


def test_hooks_are_gone_afterwards():
    module = Shared()
    capture_layers(Workload(module, (torch.ones(2, 5, 8),), {}))
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_every_linear_of_a_real_model_is_listed(compose, cpu):
    workload = build_workload(compose(*SMALL_FLUX, "batch=2"), cpu)
    rows, _ = capture_layers(workload)
    linears = {name for name, m in workload.module.named_modules() if isinstance(m, nn.Linear)}
    assert {row.fqn for row in rows} == linears
    feed_forward = next(row for row in rows if row.fqn == "transformer_blocks.0.ff.net.0.proj")
    assert feed_forward.shape == (2 * 16, 128, 512)


def test_shape_of_a_target_that_is_one_linear(compose, cpu):
    workload = build_workload(compose(*SMALL_LINEAR, "batch=3"), cpu)
    rows, _ = capture_layers(workload)
    assert linear_shape(workload, rows) == {"M": 48, "K": 256, "N": 128}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [LayerRow("a", 1, 2, 3, calls=2)],
        [LayerRow("a", 1, 2, 3, calls=1), LayerRow("b", 1, 2, 3, calls=1)],
    ],
    ids=["none", "called twice", "two"],
)
def test_no_shape_of_anything_else(rows):
    assert linear_shape(Workload(Whole(nn.Linear(2, 3)), (), {}), rows) == {}


def test_no_shape_of_a_model_whose_only_linear_is_part_of_it():
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(10, 3))
    for module in (model, Whole(model)):
        workload = Workload(module, (torch.ones(1, 2, 5),), {})
        rows, _ = capture_layers(workload)
        assert [row.shape for row in rows] == [(1, 10, 3)]
        assert linear_shape(workload, rows) == {}


@pytest.mark.parametrize(
    ("layers", "requires", "reason"),
    [
        ({}, {}, ""),
        ({"include": ["attn"]}, {}, ""),
        ({"include": [r"ff\.", "attn"]}, {}, ""),
        ({"include": ["^attn"]}, {}, "not in quant.layers.include"),
        ({"exclude": ["norm"]}, {}, ""),
        ({"exclude": ["norm", r"to_q$"]}, {}, "quant.layers.exclude: to_q$"),
        ({"min_side": 48}, {}, ""),
        ({"min_side": 49}, {}, "a side below quant.layers.min_side=49"),
        ({}, {"k_multiple": 32, "n_multiple": 16}, ""),
        ({}, {"k_multiple": 128}, "K=96 is not a multiple of 128"),
        ({}, {"n_multiple": 32}, "N=48 is not a multiple of 32"),
        ({}, {"least_m": 7}, ""),
        ({}, {"least_m": 8}, "M=7 is below 8"),
        ({"k_multiple": 64}, {}, "K=96 is not a multiple of quant.layers.k_multiple=64"),
        ({"n_multiple": 32}, {}, "N=48 is not a multiple of quant.layers.n_multiple=32"),
        ({"k_multiple": 32, "n_multiple": 16}, {}, ""),
        ({"min_m": 7, "max_m": 7}, {}, ""),
        ({"min_m": 8}, {}, "M below quant.layers.min_m=8"),
        ({"max_m": 6}, {}, "M above quant.layers.max_m=6"),
        ({"modules_to_not_convert": ["attn"]}, {}, "quant.layers.modules_to_not_convert: attn"),
        ({"modules_to_not_convert": ["to"]}, {}, ""),
        ({"exclude": ["attn"], "min_side": 49}, {"k_multiple": 128}, "quant.layers.exclude: attn"),
    ],
)
def test_why_a_scheme_leaves_a_layer_alone(layers, requires, reason):
    row = LayerRow("blocks.0.attn.to_q", M=7, K=96, N=48, calls=1)
    assert why_not(row, LayersConf(**layers), RequiresConf(**requires)) == reason


@pytest.mark.parametrize("quant", ["int8dq", "int8_static"])
def test_int8_matmuls_leave_layers_of_few_rows_alone_on_cuda(compose, quant):
    """torch._int_mm: self.size(0) needs to be greater than 16."""
    conf = compose(f"quant={quant}").quant
    rows = [LayerRow("norm1.linear", m, K=3072, N=18432, calls=1) for m in (1, 16, 17)]
    on = {
        kind: [why_not(row, conf.layers, conf.on(kind).requires) for row in rows] for kind in ("cuda", "cpu")
    }
    assert on == {"cuda": ["M=1 is below 17", "M=16 is below 17", ""], "cpu": ["", "", ""]}


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ({"least_m": 7}, "M=6 is below 7"),
        ({"m_multiple": 4}, "M=6 is not a multiple of 4"),
        ({"least_m": 6}, ""),
    ],
)
def test_a_layer_must_fit_in_its_smallest_call_too(requires, reason):
    """As a text layer of Qwen-Image, whose negative prompt of one blank is not padded."""
    row = LayerRow("add_q_proj", M=128, K=512, N=512, calls=2, least_m=6)
    assert why_not(row, LayersConf(), RequiresConf(**requires)) == reason


def test_a_linear_alone_is_named_inside_its_wrapper():
    rows, _ = capture_layers(Workload(Whole(nn.Linear(4, 2)), (torch.ones(3, 4),), {}))
    assert [row.fqn for row in rows] == ["inner"]


@pytest.mark.parametrize("layer", ["proj_out", "blocks.0.proj_out", "blocks.0.attn.to_out.0"])
@pytest.mark.parametrize(
    "name",
    [
        "proj_out",
        "out",
        "proj_out.weight",
        "blocks.0",
        "blocks.0.proj_out",
        "to_out",
        "to_out.0",
        "attn",
        "0",
        "x",
    ],
)
def test_modules_to_not_convert_means_what_it_means_to_diffusers(layer, name):
    from diffusers import TorchAoConfig
    from diffusers.quantizers.torchao import TorchAoHfQuantizer
    from torchao.quantization import Int8WeightOnlyConfig

    model = nn.ModuleDict({"proj_out": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.ModuleDict()])})
    model["blocks"][0]["proj_out"] = nn.Linear(2, 2)
    model["blocks"][0]["attn"] = nn.ModuleDict({"to_out": nn.ModuleList([nn.Linear(2, 2)])})
    quantizer = TorchAoHfQuantizer(TorchAoConfig(Int8WeightOnlyConfig()), pre_quantized=False)
    quantizer.modules_to_not_convert, quantizer.offload = [name], False
    theirs = quantizer.check_if_quantized_param(model, None, f"{layer}.weight", {})
    ours = why_not(
        LayerRow(layer, 1, 2, 2, calls=1), LayersConf(modules_to_not_convert=[name]), RequiresConf()
    )
    assert theirs == (ours == "")


def test_names_are_those_in_the_model_whatever_the_target(compose, cpu):
    def names(*overrides):
        workload = build_workload(compose(*SMALL_FLUX, "resolution=64", *overrides), cpu)
        return {row.fqn: (row.component, row.name) for row in capture_layers(workload)[0]}

    block = names("target=block")
    assert block["attn.to_q"] == ("denoiser", "transformer_blocks.0.attn.to_q")
    assert names("target=linear") == {"inner": ("denoiser", "transformer_blocks.0.ff.net.0.proj")}
    pipeline = names("target=pipeline", "model.pipeline.steps=1")
    assert pipeline["transformer.proj_out"] == ("denoiser", "proj_out")
    assert pipeline["vae.decoder.mid_block.attentions.0.to_q"][0] == "vae"


PRESETS = {  # of flux-tiny's layers at width 1024
    "all": lambda name: True,
    "field_default": lambda name: "embed" not in name and name not in ("proj_out", "norm_out.linear"),
    "large": lambda name: "embed" not in name and "norm" not in name and name != "proj_out",
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", ["denoiser", "pipeline"])
def test_a_preset_takes_the_layers_that_it_describes(compose, cpu, preset, target):
    cfg = compose(
        *SMALL_FLUX, "model.factory.num_attention_heads=16", f"layers={preset}",
        f"target={target}", "resolution=64", "model.pipeline.steps=1",
    )  # fmt: skip
    assert (cfg.quant.layers.name, bool(cfg.quant.layers.description)) == (preset, True)
    rows, _ = capture_layers(build_workload(cfg, cpu))
    assert unmatched(cfg.quant.layers, rows) == []
    for row in rows:
        row.reason = row.reason or why_not(row, cfg.quant.layers, RequiresConf())
    taken = {row.name for row in rows if not row.reason}
    assert taken == {row.name for row in rows if row.component == "denoiser" and PRESETS[preset](row.name)}
    assert taken


def test_patterns_that_match_no_layer_are_told():
    """A layer that a rule has taken already, as after autoquant's search, matches all the same."""
    rows = [LayerRow("a.to_q", 1, 2, 3, 1, "", "a rule"), LayerRow("vae.x", 1, 2, 3, 1, component="vae")]
    conf = LayersConf(include=["", "q$"], exclude=["to_k", "to_q"], modules_to_not_convert=["a", "x"])
    assert unmatched(conf, rows) == [
        "quant.layers.exclude[0]=to_k matches no layer",
        "quant.layers.modules_to_not_convert[1]=x matches no layer",
    ]
    assert unmatched(LayersConf(), rows) == unmatched(conf, []) == []


def test_a_tally_has_the_rules_that_took_most():
    rows = [LayerRow(f"l{i}", 1, 2, 3, 1, "", f"rule {i // 2}") for i in range(13)] + [
        LayerRow("x", 1, 2, 3, 1)
    ]
    assert tally(rows).startswith("2 x rule 0: l0, ..., 2 x rule 1: l2, ..., ")
    assert tally(rows).endswith(", 3 for other reasons")
