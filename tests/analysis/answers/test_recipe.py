"""The lines of code in the report make of an unquantized model what the run made of its own."""

from dataclasses import asdict

import pytest
import torch

from src.analysis.answers.recipe import layer_patterns, model_words, recipe
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX
from tests.treatments.conftest import make as make
from tests.treatments.conftest import same

RULES = ("layers=field_default", "quant.layers.min_side=64")


@pytest.fixture
def followed(compose, cpu, make):
    """followed(*overrides): the treated arm of a run, and a model that its lines were run on."""

    @torch.no_grad()
    def follow(*overrides):
        made, cfg = make(*overrides), compose(*overrides)
        text = recipe(asdict(cfg), [row.as_dict() for row in made.rows], "cpu")
        workload = build_workload(cfg, cpu)
        exec(text, {"model": workload.module, "inputs": workload.kwargs})
        return made, workload, text

    return follow


@pytest.mark.parametrize(
    ("quant", "rules", "calls"),
    [("int8dq", (), "quantize_(model, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))"),
     ("int8wo", RULES, 'not re.fullmatch(r"x_embedder|'),
     ("int8_static", RULES, "scale = torch.full([1] * dims, max(largest / 127, 1e-12)"),
     ("uint4wo", (), "from src.treatments.packed.uintx import PackedUintxWeightOnlyConfig")],
)  # fmt: skip
def test_the_lines_do_what_the_run_did(followed, quant, rules, calls):
    made, workload, text = followed(*SMALL_FLUX, f"quant={quant}", *rules, "compile=none")
    ours, theirs = workload.module.state_dict(), made.treated.module.state_dict()
    assert [name for name in ours if not same(ours[name], theirs[name])] == []
    assert calls in text
    assert "compile" not in text


def test_a_plan_of_several_schemes_is_a_line_for_each(followed, compose, cpu):
    _, workload, _ = followed(*SMALL_FLUX, "quant=int8wo", "compile=none")
    cfg = asdict(compose(*SMALL_FLUX, "quant=autoquant", "compile=regional"))
    names = [name for name, m in workload.module.named_modules() if isinstance(m, torch.nn.Linear)]
    plan = {name: "int8wo" if "norm" in name else "int8dq" if "attn" in name else "" for name in names}
    rows = [{"fqn": n, "name": n, "component": "denoiser", "scheme": scheme} for n, scheme in plan.items()]
    text = recipe(cfg, rows, "cpu")
    assert text.count("quantize_(model, ") == 2
    assert text.endswith(
        "for block in [*model.transformer_blocks, *model.single_transformer_blocks]:\n"
        "    block.compile(fullgraph=True, dynamic=False)"
    )
    fresh = build_workload(compose(*SMALL_FLUX, "quant=none"), cpu).module
    exec(text, {"model": fresh})
    found = {name: type(fresh.get_submodule(name).weight).__name__ for name in names}
    assert {found[name] for name, scheme in plan.items() if not scheme} == {"Parameter"}
    assert all(found[name].startswith("Int8") for name, scheme in plan.items() if scheme)


def test_other_compile_modes_and_models_have_lines_of_their_own(compose):
    rows = [{"fqn": "", "name": "", "component": "denoiser", "scheme": "int8wo"}]
    cfg = asdict(compose("model=pixart-sigma", "quant=int8wo", "compile=max-autotune", "target=block"))
    assert recipe(cfg, rows, "cpu").endswith(
        "model.compile(fullgraph=True, dynamic=False, mode='max-autotune')"
    )
    assert model_words(cfg) == "a PixArtTransformer2DModel's transformer_blocks.0, in bfloat16"
    whole = asdict(
        compose("model=flux-tiny", "target=pipeline", "compile=default", "compile.tuning=recommended")
    )
    assert "torchao.quantization.utils.recommended_inductor_config_setter()\n" in recipe(whole, rows, "cpu")
    assert model_words(whole) == "pipeline.transformer, in bfloat16"
    aot = recipe(asdict(compose("compile=aot")), rows, "cpu")
    assert aot.endswith("model = torch._inductor.aoti_load_package(path)")
    assert "packages/treated" in recipe(asdict(compose("compile=aot-regional")), rows, "cpu")


def test_patterns_take_these_layers_and_no_others():
    taken = ["blocks.0.ff.net.2", "blocks.1.ff.net.2", "blocks.0.to_q", "blocks.10.to_q", "out"]
    left = ["blocks.1.to_q", "blocks.0.norm", "blocks.1.norm"]
    assert layer_patterns(taken, left) == [r"blocks\.\d+\.ff\.net\.2", r"blocks\.(?:0|10)\.to_q", "out"]
    assert layer_patterns(["a.0.b.1", "a.1.b.0"], ["a.0.b.0", "a.1.b.1"]) == [r"a\.0\.b\.1", r"a\.1\.b\.0"]
    assert layer_patterns(["b.0.q", "b.1.q", "b.0.k", "b.1.k"], []) == [r"b\.\d+\.(?:q|k)"]
