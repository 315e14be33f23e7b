"""A baseline is unquantized: checkpoints of every kind are looked at, for each part of a pipeline."""

import shutil
from dataclasses import replace

import pytest
import torch
from torchao.quantization import quantize_

from src.config.errors import ConfigError
from src.config.schema.model import ComponentConf, ModelConf, WeightsConf
from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.treatments.packed.fpx import FpxWeightOnlyConfig
from src.workloads.model import build_model, outline
from src.workloads.pipeline import check_weights
from src.workloads.weights.unquantized import quantized_tensors
from tests.conftest import SMALL_FLUX
from tests.workloads.factories import INT8, SEARCHED, quantized_linears, two_linears

HERE = "tests.workloads.factories"
WAN = (SEARCHED, "model=tiny-wan", "quant=int8wo", "model.weights.source=local")


@pytest.mark.parametrize(
    ("name", "first", "count"),
    [("int8", "condition_embedder.time_proj", 24), ("partly_int8", "blocks.1.attn1.to_q", 10)],
)
def test_a_quantized_checkpoint_is_refused_before_anything_is_measured(
    compose, execute_run, checkpoints, monkeypatch, name, first, count
):
    monkeypatch.setattr("src.tasks.latency.note_ceilings", lambda run: pytest.fail("measured"))
    record = execute_run(compose(*WAN, f"model.weights.id={checkpoints / name}"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert record.reason.startswith(
        f"model.weights.id={checkpoints / name} is a quantized checkpoint, and a baseline"
    )
    assert f": {first}" in record.reason
    assert f"is Int8Tensor, the first of {count} such parameters" in record.reason
    assert "int8wo" not in record.reason
    assert f"task=serialize serialize.load={checkpoints / name}" in record.remedy


@pytest.mark.parametrize("name", ["int8", "pickled"])
def test_the_files_and_the_loaded_model_name_the_same_parameters(compose, checkpoints, name):
    conf = compose(*WAN, f"model.weights.id={checkpoints / name}").model
    with pytest.raises(RunEndedError) as loaded:
        outline(conf, torch.bfloat16)
    with pytest.raises(RunEndedError) as read:
        check_weights(compose(*WAN, f"model.weights.id={checkpoints / name}"))
    assert str(loaded.value) == str(read.value)


@pytest.mark.parametrize(
    "config", [INT8, FpxWeightOnlyConfig(3, 2, set_inductor_config=False)], ids=["torchao", "packed"]
)
def test_quantized_tensors_are_named_by_their_class(config):
    model = two_linears(64).to(torch.bfloat16)
    assert not dict(quantized_tensors(model))
    quantize_(model[1], config)
    assert list(dict(quantized_tensors(model))) == ["1.weight"]


def test_modules_of_a_quantization_library_count_with_all_they_hold():
    assert dict(quantized_tensors(quantized_linears(64))) == {
        "0.weight": "Linear8bit",
        "0.bias": "Linear8bit",
    }


def test_a_function_that_makes_no_model_is_named():
    conf = ModelConf(name="any", factory={"_target_": f"{HERE}.no_model", "width": 64})
    with pytest.raises(
        ConfigError, match=r"model\.factory\._target_=.*no_model: gives int, a nn\.Module is wanted"
    ):
        build_model(conf, torch.device("cpu"), torch.bfloat16, 0)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("quantized_linears", r"0\.weight is Linear8bit, the first of 2"),
        ("quantizing", r"1\.weight is Int8Tensor"),
        ("narrow", r"1\.weight is float8_e4m3fn"),
        ("packed", r"1\.qweight is int32"),
    ],
)
def test_a_factory_that_quantizes_is_refused(factory, said):
    conf = ModelConf(name="any", factory={"_target_": f"{HERE}.{factory}", "width": 64})
    with pytest.raises(RunEndedError, match=rf"{factory} makes a quantized model.*: {said}"):
        build_model(conf, torch.device("cpu"), torch.bfloat16, 0)


def test_what_the_hub_sent_is_looked_at_though_loading_has_cast_it(
    compose, checkpoints, tmp_path, monkeypatch
):
    """A cache as huggingface_hub keeps it; nothing is asked of a server."""
    repository = tmp_path / "models--somebody--tiny-wan"
    (repository / "refs").mkdir(parents=True)
    commit = 40 * "a"
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(checkpoints / "float8", repository / "snapshots" / commit / "transformer")
    arguments = {"cache_dir": str(tmp_path), "local_files_only": True}
    conf = compose(*WAN, f"model.weights.id={checkpoints / 'plain'}").model
    given = WeightsConf(source="hub", id="somebody/tiny-wan", subfolder="transformer", arguments=arguments)
    with pytest.raises(RunEndedError, match=r"id=somebody/tiny-wan is a quantized.*weight is float8_e4m3fn"):
        outline(replace(conf, weights=given), torch.bfloat16)


@pytest.mark.parametrize("part", ["vae", "text_encoder_2"])
def test_the_other_parts_of_a_pipeline_are_looked_at(compose, tmp_path, part):
    """Only a configuration says so here, as of libraries that are not installed."""
    cfg = compose(*SMALL_FLUX, "target=pipeline", "model.pipeline.prompt=tokens")
    conf = cfg.model.pipeline.vae if part == "vae" else cfg.model.pipeline.text_encoders[part]
    random = replace(conf) if part != "vae" else ComponentConf(conf.factory)
    model = build_model(random, torch.device("cpu"), torch.bfloat16, 0)
    if part == "vae":
        model.register_to_config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
        model.save_config(tmp_path)
    else:
        model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
        model.config.save_pretrained(tmp_path)
    conf.weights = WeightsConf(source="local", id=str(tmp_path))
    with pytest.raises(RunEndedError, match=rf"{part}\.weights\.id=.*quantization_config says bitsandbytes"):
        check_weights(cfg)
    cfg.target = "denoiser"  # which builds neither
    check_weights(cfg)
