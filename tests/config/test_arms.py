"""Which configuration each arm has: what a treatment names the baseline lacks, a ladder adds one thing at a time."""

from dataclasses import replace

import pytest

from src.checks.validation import check_values
from src.config.errors import ConfigError
from src.config.schema.arms import (
    TREATABLE,
    bare,
    baseline_of,
    compiled_as,
    is_inherited,
    on_step,
    overrides_of,
    recipe_text,
)
from src.config.schema.recipe import LadderConf
from src.records.key import axes_of, count_alike, run_key, workload_key
from tests.conftest import SMALL_FLUX

CPU = {"kind": "cpu", "name": "a CPU"}
STEPS = {
    "compiled": ["compile"],
    "fused": ["recipe.fused_qkv"],
    "quantized": ["quant"],
    "few": ["quant.layers"],
}


@pytest.fixture
def whole(compose):
    return compose(
        *SMALL_FLUX, "quant=int8wo", "compile=regional", "layers=large", "recipe.fused_qkv=true",
        "recipe.attention=math",
    )  # fmt: skip


def test_the_usual_baseline_is_unquantized_and_as_the_treated_arm_otherwise(whole):
    base = baseline_of(whole)
    assert (base.quant.name, base.compile, base.recipe) == ("none", whole.compile, whole.recipe)


def test_bare_values_are_those_of_the_options_of_that_name(compose, whole):
    plain = compose(*SMALL_FLUX, "quant=none", "compile=none")
    found = bare(whole, TREATABLE)
    assert all(
        count_alike(getattr(found, part), getattr(plain, part)) for part in ("quant", "compile", "recipe")
    )


def test_a_treatment_takes_away_only_what_it_names(whole):
    base = baseline_of(replace(whole, treatment=["recipe.attention", "quant.layers"]))
    assert base.recipe == replace(whole.recipe, attention="auto")
    assert (base.quant.name, base.quant.layers.exclude) == ("int8wo", [])


def test_a_step_has_all_before_it_and_nothing_after_it(whole):
    run = on_step(replace(whole, ladder=LadderConf(STEPS, "fused")))
    assert (run.quant.name, run.compile.name, recipe_text(run.recipe)) == (
        "none",
        "regional",
        "fused_qkv, attention=math",
    )
    assert run.treatment == ["recipe.fused_qkv"]
    assert on_step(run) == run  # a run's own file is read again on a node
    assert is_inherited("compile", run)
    assert not is_inherited("recipe.fused_qkv", run)


def test_the_last_step_is_what_is_configured(whole):
    run = on_step(replace(whole, ladder=LadderConf(STEPS, "few")))
    assert (run.quant, run.recipe, run.compile) == (whole.quant, whole.recipe, whole.compile)
    assert not baseline_of(run).quant.layers.exclude


def test_a_plain_recipe_is_no_part_of_any_key(compose):
    plain, named = compose("recipe=plain", "cache=none"), compose("treatment=[quant]")
    assert run_key(plain, CPU) == run_key(named, CPU)
    assert not {"recipe", "treatment"} & axes_of(plain).keys()


@pytest.mark.parametrize("given", ["recipe.fused_qkv=true", "cache=first_block", "recipe.attention=math"])
def test_a_recipe_is_part_of_every_key(compose, given):
    plain, other = compose(), compose(given)
    assert run_key(plain, CPU) != run_key(other, CPU)
    assert workload_key(plain, CPU) != workload_key(other, CPU)
    assert axes_of(other)["recipe"] == recipe_text(other.recipe)


def test_a_treatment_is_part_of_the_run_key(compose):
    one, other = (
        compose("recipe.fused_qkv=true", f"treatment=[{key}]") for key in ("quant", "recipe.fused_qkv")
    )
    assert run_key(one, CPU) != run_key(other, CPU)
    assert axes_of(other)["treatment"] == "recipe.fused_qkv"


def test_what_axes_tell_can_be_asked_for_again(compose):
    given = (
        "recipe.fused_qkv=true",
        "recipe.attention=math",
        "cache=first_block",
        "treatment=[compile,quant]",
    )
    axes = axes_of(compose(*given))
    again = overrides_of(axes["recipe"], axes["treatment"])
    assert [f"{key}={value}" for key, value in again.items()] == [*given]


def test_cuda_graphs_are_a_compile_mode(compose):
    modes = {
        "regional": "reduce-overhead",
        "max-autotune-no-cudagraphs": "max-autotune",
        "max-autotune": "max-autotune",
    }
    for name, mode in modes.items():
        cfg = compose("recipe.cuda_graphs=true", f"compile={name}")
        assert (compiled_as(cfg).mode, compiled_as(cfg).scope) == (mode, cfg.compile.scope)
    assert compiled_as(compose("compile=regional")).mode is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["treatment=[fused]"], "treatment: fused is nothing that an arm can lack; .*accepted: quant"),
        (["treatment=[]"], "the arms would be equal"),
        (["+ladder.steps.a=[quant]", "ladder.step=b"], "ladder.step=b: no such step; .*accepted: a"),
        (["+ladder.steps.a=[quant]"], "ladder.step=: a value is missing; accepted: a"),
        (["recipe.attention=fl"], "recipe.attention=fl: no such kind; did you mean flash"),
        (["recipe.vae_compile=true", "compile=none"], "compile=none compiles nothing"),
        (
            ["quant=autoquant", "treatment=[quant,compile]"],
            "autoquant chooses against an unquantized baseline",
        ),
        (
            ["task=serialize", "recipe.fused_qkv=true"],
            "task=serialize takes models as they are, not with fused_qkv",
        ),
        (
            ["+recipe.cache.config._target_=diffusers.NoCache"],
            "recipe.cache.config._target_=diffusers.NoCache",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(compose, given, said):
    with pytest.raises(ConfigError, match=said):
        check_values(compose(*given))
