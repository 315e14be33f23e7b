"""Runs with a recipe, from configuration to record: in both arms, as the treatment, refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from src.records.record import Outcome
from src.tasks.arms.arm import _note_attention
from src.treatments.recipe_check import refusals
from tests.conftest import SMALL_FLUX

SMALL = (*SMALL_FLUX, "dtype=float32")
PIPELINE = (*SMALL, "target=pipeline", "model.pipeline.steps=3", "quant=none",
            "measure.min_pairs=3", "measure.max_pairs=3")  # fmt: skip


def test_a_recipe_in_both_arms_is_quantized_as_it_is(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL, "quant=int8wo", "recipe.fused_qkv=true"))
    assert record.outcome is Outcome.OK, record.reason
    rows = json.loads((tmp_path / "run" / "layers.json").read_text())
    assert {row["scheme"] for row in rows if row["fqn"].endswith("to_qkv")} == {"int8wo"}
    assert record.details["baseline"]["text"] == "unquantized float32, compile=none, fused_qkv"


def test_a_recipe_as_the_treatment_with_a_quantized_baseline(compose, execute_run, tmp_path):
    record = execute_run(
        compose(*SMALL, "quant=int8wo", "recipe.fused_qkv=true", "treatment=[recipe.fused_qkv]")
    )
    assert record.outcome is Outcome.OK, record.reason
    tables = [json.loads((tmp_path / "run" / name / "layers.json").read_text()) for name in ("", "baseline")]
    quantized = [{row["fqn"].rpartition(".")[2] for row in rows if row["scheme"]} for rows in tables]
    assert "to_qkv" in quantized[0]
    assert "to_qkv" not in quantized[1]
    assert "to_q" in quantized[1]
    assert record.details["baseline"]["text"] == "int8wo of float32, compile=none"
    own, other = (record.metrics[f"quality/{arm}sqnr_db"] for arm in ("", "baseline_"))
    assert own == pytest.approx(other, abs=3)
    assert 20 < own < 60
    assert record.axes["treatment"] == "recipe.fused_qkv"


def test_a_quantized_baseline_that_is_measured_in_turn(compose, execute_run):
    """It is freed before the treated arm is made, which torchao's tensors and those of this project take part in."""
    cfg = compose(
        *SMALL,
        "quant=int8wo",
        "recipe.fused_qkv=true",
        "treatment=[recipe.fused_qkv]",
        "measure.pairing=in_turn",
    )
    record = execute_run(cfg)
    assert (record.outcome, record.details["pairing"]) == (Outcome.OK, "in_turn"), record.reason
    assert record.details["baseline"]["text"] == "int8wo of float32, compile=none"


def test_images_of_a_quantized_baseline_are_held_against_the_unquantized(compose, execute_run):
    """Both arms are quantized alike: beside each other their images are equal, beside the unquantized ones not."""
    options = ("quant=int8wo", "recipe.vae_slicing=true", "treatment=[recipe.vae_slicing]")
    record = execute_run(compose(*PIPELINE, *options))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["quality_against"] == "the unquantized model, uncompiled"
    own, other = (record.metrics[f"quality/{arm}psnr_db"] for arm in ("", "baseline_"))
    assert own == pytest.approx(other)
    assert 10 < own < 100


def test_fewer_layers_as_the_treatment(compose, execute_run):
    cfg = compose(*SMALL, "quant=int8wo", "quant.layers.exclude=[attn]", "treatment=[quant.layers]")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["memory/model_gib"] > record.metrics["memory/baseline_model_gib"]


def test_step_caches_change_the_image(compose, execute_run):
    record = execute_run(compose(*PIPELINE, "cache=taylorseer", "recipe.cache.config.disable_cache_before_step=1",
                                 "treatment=[recipe.cache]"))  # fmt: skip
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quality/max_abs_error"] > 0
    assert record.axes["recipe"] == "cache=taylorseer"


@pytest.mark.parametrize(("graphs", "told"), [("false", {"treated": ["math"]}), ("true", None)])
def test_a_graph_that_runs_again_names_no_kernels_of_attention(compose, run_context, graphs, told):
    cfg = compose(*SMALL, "compile=regional", "recipe.attention=flash", f"recipe.cuda_graphs={graphs}")
    run = replace(run_context(cfg), device=SimpleNamespace(kind="cuda"))
    _note_attention("treated", SimpleNamespace(call=lambda: None), run)
    assert run.record.details.get("attention") == told
    assert ("warnings" in run.record.details) == bool(told)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["recipe.offload=model"], "this is a CPU"),
        (["recipe.cuda_graphs=true"], "CUDA graphs need a CUDA device"),
        (["recipe.attention=cudnn"], "torch has this kind for GPUs only"),
        (["recipe.vae_tiling=true", "target=denoiser"], "for whole pipelines: this is target=denoiser"),
        (["recipe.fused_qkv=true", "quant.where=streamed"], "quant.where=streamed never has it whole"),
        (["cache=first_block", "compile=regional"], "compile.fullgraph=true forbids"),
        (["treatment=[recipe.fused_qkv]"], "adds nothing here: the arms would be equal"),
        (["recipe.memory_format=channels_last", "target=denoiser"], "has no convolutions"),
    ],
)
def test_what_cannot_be_is_unsupported_with_its_reason(compose, execute_run, given, said):
    record = execute_run(compose(*PIPELINE, *given))
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    assert said in record.reason
    assert record.remedy


def test_a_ladder_leaves_out_what_an_earlier_step_could_not_add(compose, execute_run):
    steps = {"order": ["recipe.memory_format"], "quantized": ["quant"]}
    given = [f"+ladder.steps.{name}=[{','.join(keys)}]" for name, keys in steps.items()]
    cfg = compose(
        *SMALL, "quant=int8wo", "recipe.memory_format=channels_last", *given, "ladder.step=quantized"
    )
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert "left out in both arms: recipe.memory_format: " in record.reason


def test_a_step_cache_and_cuda_graphs_are_refused_together(compose):
    """What a cache keeps from one step to the next lies in a graph's own memory; found before a GPU is asked."""
    options = ("recipe.cuda_graphs=true", "cache=first_block", "compile=regional", "compile.fullgraph=false")
    found = dict(refusals(compose(*PIPELINE, *options), "cuda"))
    assert "keeps tensors from one step to the next" in found["recipe.cuda_graphs"].reason
    assert not dict(refusals(compose(*PIPELINE, options[0], options[2]), "cuda"))
