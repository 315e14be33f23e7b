"""Mistakes in a model's YAML: one line that names key and value, status 2, and nothing has run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import MISSING, OmegaConf

from src.checks.model_rules import model_mistakes
from src.checks.validation import validated
from src.config.errors import ConfigError, several
from src.config.schema.model import ModelConf
from tests.app.conftest import Call, Called
from tests.composing import Compose
from tests.workloads.factories import CONF

LINEAR = {
    "name": "mine",
    "factory": {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 64},
    "inputs": {"input": {"shape": ["batch", 64]}},
    "targets": {"denoiser": ""},
}
LTX = yaml.safe_load((CONF / "model" / "tiny-ltx.yaml").read_text())
SDXL = yaml.safe_load((CONF / "model" / "tiny-sdxl.yaml").read_text())

# what is changed of which model -> what the line must say
MISTAKES = {
    "no factory": (LINEAR, {"factory": {}}, ["model.factory._target_: a value is missing", "dotted path"]),
    "null": (
        LINEAR,
        {"factory": {"_target_": None}},
        ["model.factory._target_=None: a dotted path is wanted"],
    ),
    "a misspelt class": (
        LTX,
        {"factory": {"_target_": "diffusers.LTXVideoTransfomer3DModel"}},
        [
            "model.factory._target_=diffusers.LTXVideoTransfomer3DModel",
            "did you mean LTXVideoTransformer3DModel",
        ],
    ),
    "no such package": (
        LINEAR,
        {"factory": {"_target_": "mymodles.Net"}},
        ["no package mymodles is installed"],
    ),
    "a foreign argument": (
        LTX,
        {"factory": {**LTX["factory"], "num_layer": 2}},
        [
            "model.factory.num_layer: diffusers.LTXVideoTransformer3DModel takes no such",
            "did you mean num_layers?",
        ],
    ),
    "a missing argument": (
        LINEAR,
        {"factory": {"_target_": "torch.nn.Linear", "in_features": 64}},
        ["model.factory.out_features: torch.nn.Linear needs this argument"],
    ),
    "a dtype word": (
        LINEAR,
        {"inputs": {"input": {"shape": ["batch", 64], "dtype": "bf16"}}},
        ["model.inputs.input.dtype=bf16: no such choice; did you mean bfloat16?", "int64"],
    ),
    "a dtype word in a set": (
        SDXL,
        {"inputs": {**SDXL["inputs"], "added_cond_kwargs": {"time_ids": {"shape": [1, 6], "dtype": "long"}}}},
        ["model.inputs.added_cond_kwargs.time_ids.dtype=long: no such choice"],
    ),
    "a misspelt key": (
        LINEAR,
        {"inputs": {"input": {"shap": ["batch", 64]}}},
        ["unknown key shap in model.inputs.input; did you mean shape?"],
    ),
    "a misspelt key in a list": (
        LINEAR,
        {"inputs": {"input": [{"shape": [1]}, {"shape": [1], "fil": 1}]}},
        ["unknown key fil in model.inputs.input[1]; did you mean fill?"],
    ),
    "no tensor": (
        LINEAR,
        {"inputs": {"input": 3}},
        ["model.inputs.input=3: not a tensor", "shape: [batch, 64]"],
    ),
    "a number in a list of tensors": (
        LINEAR,
        {"inputs": {"input": [{"shape": [1]}, 3]}},
        ["model.inputs.input[1]=3: not a tensor"],
    ),
    "a shape of no dimension": (
        LINEAR,
        {"inputs": {"input": {"shape": ["batch", "widht"]}}},
        ["model.inputs.input.shape=widht: no dimension 'widht'; accepted: batch, resolution"],
    ),
    "a count of no dimension": (
        LINEAR,
        {"inputs": {"input": {"shape": [64], "count": "bach"}}},
        ["model.inputs.input.count=bach: no dimension 'bach'"],
    ),
    "an argument of no dimension": (
        LTX,
        {"call": {**LTX["call"], "height": "sidee"}},
        ["model.call.height=sidee: no dimension 'sidee'", "side", "quoted twice"],
    ),
    "an argument of no dimension in a list": (
        LTX,
        {"call": {**LTX["call"], "rope_interpolation_scale": [[1, "sidee"]]}},
        ["model.call.rope_interpolation_scale[0][1]=sidee: no dimension"],
    ),
    "no shape": (
        LINEAR,
        {"inputs": {"input": {"fill": 1}}},
        ["model.inputs.input.shape: a value is missing"],
    ),
    "an empty tensor": (LINEAR, {"inputs": {"input": {}}}, ["model.inputs.input.shape: a value is missing"]),
    "whole numbers that nobody gives": (
        LINEAR,
        {"inputs": {"input": {"shape": ["batch", 64], "dtype": "int64"}}},
        ["model.inputs.input.dtype=int64: normal values are no indices", "model.inputs.input.fill or"],
    ),
    "a number that its dtype cannot hold": (
        LINEAR,
        {"inputs": {"input": {"shape": ["batch", 64], "dtype": "uint8", "fill": 300}}},
        ["model.inputs.input.fill=300: with dtype=uint8 a whole number from 0 to 255 is wanted"],
    ),
    "a fraction of whole numbers": (
        LINEAR,
        {"inputs": {"input": {"shape": ["batch", 64], "dtype": "int32", "fill": 0.5}}},
        ["model.inputs.input.fill=0.5: with dtype=int32 a whole number"],
    ),
    "a dimension that comes to nothing": (
        LTX,
        {"dims": {**LTX["dims"], "side": "resolution // 128"}},
        ["model.dims.side=resolution // 128: gives 0 with batch=1, resolution=64; a dimension is at least 1"],
    ),
    "a repository that is a folder": (
        LTX,
        {"weights": {"source": "hub", "id": "/no/such"}},
        ["model.weights.id=/no/such: no repository, which is OWNER/NAME", "source=local"],
    ),
    "an argument that quantizes": (
        LTX,
        {"weights": {"source": "hub", "id": "a/b", "arguments": {"load_in_8bit": True}}},
        ["model.weights.arguments.load_in_8bit: is not given here; quant=..."],
    ),
    "a factory that loads": (
        LTX,
        {"factory": {"_target_": "diffusers.LTXVideoTransformer3DModel.from_pretrained", "id": "/x"}},
        [
            "from_pretrained: loads weights, which would be random all the same; give the class, and by model.weights"
        ],
    ),
    "a module of another src": (
        LINEAR,
        {"factory": {"_target_": "src.mymodels.Net"}},
        ["model.factory._target_=src.mymodels.Net: src has no mymodels; it is ", "/src"],
    ),
    "an initializer that is not there": (
        LINEAR,
        {"inputs": {"input": {"shape": [64], "init": "src.workloads.inputs.norml"}}},
        ["model.inputs.input.init=src.workloads.inputs.norml: src.workloads.inputs has no norml"],
    ),
    "an input that the model does not take": (
        LTX,
        {"inputs": {**LTX["inputs"], "hiden_states": {"shape": [1]}}},
        [
            "model.inputs.hiden_states: diffusers.LTXVideoTransformer3DModel.forward takes no such",
            "hidden_states?",
        ],
    ),
    "an argument that the model does not take": (
        LTX,
        {"call": {**LTX["call"], "heigth": 2}},
        ["model.call.heigth: ", "did you mean height?"],
    ),
    "an input that is missing": (
        LTX,
        {"inputs": {}},
        [
            "model.inputs.hidden_states: diffusers.LTXVideoTransformer3DModel.forward needs this argument",
            "more)",
        ],
    ),
    "weights that a class cannot load": (
        LINEAR,
        {"weights": {"source": "hub", "id": "a/b"}},
        ["model.weights.source=hub: torch.nn.Linear has no from_pretrained; accepted: random"],
    ),
    "weights that a function cannot load": (
        LINEAR,
        {"factory": {"_target_": "tests.workloads.factories.wan"}, "weights": {"source": "hub", "id": "a/b"}},
        ["tests.workloads.factories.wan has no from_pretrained"],
    ),
    "no folder": (
        LTX,
        {"weights": {"source": "local", "id": "~/no/such folder"}},
        ["model.weights.id=", "/no/such folder: no folder /"],
    ),
    "an argument of our own": (
        LTX,
        {"weights": {"source": "hub", "id": "a/b", "arguments": {"torch_dtype": "float16"}}},
        ["model.weights.arguments.torch_dtype: is not given here; dtype=..."],
    ),
}


@dataclass
class Only:
    """A configuration of nothing but a model."""

    model: ModelConf = MISSING


def first_mistake(model: dict[str, Any]) -> str:
    """As an application tells it."""
    try:
        checked = validated(OmegaConf.create({"model": model}), Only).model
    except ConfigError as error:
        return str(error)
    return str(several(list(model_mistakes(checked, {"batch": 1, "resolution": 64}, "denoiser"))))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str) -> None:
    model, changes, expected = MISTAKES[mistake]
    said = first_mistake({**model, **changes})
    assert "\n" not in said
    assert [each for each in expected if each not in said] == [], said


def called_with(call: Call, folder: Path, model: dict[str, Any], *argv: str) -> Called:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "mine.yaml").write_text(yaml.safe_dump({**model, "name": "mine"}))
    return call("-cd", str(folder), "model=mine", *argv)


def test_a_model_of_no_target_is_one_line(call: Call, tmp_path: Path) -> None:
    result = called_with(call, tmp_path, {**LINEAR, "targets": {}}, "plan=true")
    assert (result.status, result.runs) == (2, [])
    assert result.err.startswith('error: model.targets: a value is missing; give {denoiser: ""}')


@pytest.mark.parametrize("mistake", ["no factory", "a misspelt key in a list", "no folder"])
def test_nothing_runs(call: Call, tmp_path: Path, mistake: str) -> None:
    model, changes, expected = MISTAKES[mistake]
    result = called_with(call, tmp_path, {**model, **changes})
    assert (result.status, result.out, result.runs) == (2, "", [])
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert expected[0] in result.err


PIPELINE_MISTAKES = {
    "model.pipeline._target_=diffusers.FluxPipelin": [
        "model.pipeline._target_=",
        "did you mean FluxPipeline",
    ],
    "model.pipeline.denoiser=unet": ["diffusers.FluxPipeline has no component unet"],
    "+model.pipeline.vae.factory.layers_per_bloc=1": [
        "vae.factory.layers_per_bloc: diffusers.AutoencoderKL takes no"
    ],
    "+model.pipeline.scheduler.shfit=1": ["model.pipeline.scheduler.shfit: ", "did you mean shift?"],
    "+model.pipeline.call.max_length=5": [
        "model.pipeline.call.max_length: diffusers.FluxPipeline.__call__ takes no"
    ],
    "+model.pipeline.call.max_sequence_length=words": [
        "model.pipeline.call.max_sequence_length=words: no dimension"
    ],
    "model.pipeline.inputs.prompt_embeds.shape=[words]": ["model.pipeline.inputs.prompt_embeds.shape=words"],
    "model.pipeline.vae.weights={source:local,id:/nope}": [
        "model.pipeline.vae.weights.id=/nope: no folder /nope"
    ],
}


@pytest.mark.parametrize("override", PIPELINE_MISTAKES)
def test_the_parts_of_a_pipeline_are_checked_where_they_are_built(compose: Compose, override: str) -> None:
    model = compose("model=flux-tiny", override).model
    axes = {"batch": 1, "resolution": 256}
    assert list(model_mistakes(model, axes, "denoiser")) == []
    (said,) = model_mistakes(model, axes, "pipeline")
    assert [each for each in PIPELINE_MISTAKES[override] if each not in said] == [], said


def test_text_encoders_are_checked_where_the_prompt_is_tokens(compose: Compose) -> None:
    wrong = "model.pipeline.text_encoders.text_encoder.factory._target_=transformers.CLIPTextModl"
    model, axes = compose("model=flux-tiny", wrong).model, {"batch": 1, "resolution": 256}
    assert list(model_mistakes(model, axes, "pipeline")) == []
    model.pipeline.prompt = "tokens"
    (said,) = model_mistakes(model, axes, "pipeline")
    assert "text_encoder.factory._target_=transformers.CLIPTextModl: transformers has no CLIPTextModl" in said


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("sdxl-tiny", ("model.dims.text_tokens=78",), ["text_encoder.tokens=78 (as model.dims.text_tokens): ",
                                                       "text_encoder_2.tokens=78 (as model.dims.text_tokens): "]),
        ("sdxl-tiny", ("model.dims.text_tokens=77",), []),
        ("flux-tiny", ("model.dims.text_tokens=300",), []),  # of T5, which has no such table
        ("flux-tiny", ("model.pipeline.text_encoders.text_encoder.tokens=90",), ["text_encoder.tokens=90: "]),
        ("flux-tiny", ("model.pipeline.text_encoders.text_encoder.tokens=90",
                       "model.pipeline.text_encoders.text_encoder.factory.config.max_position_embeddings=90"), []),
    ],
)  # fmt: skip
def test_no_more_token_ids_than_an_encoder_has_positions_for(
    compose: Compose, model: str, given: tuple[str, ...], said: list[str]
) -> None:
    """Where the prompt is embeddings no encoder is called."""
    conf, axes = compose(f"model={model}", *given).model, {"batch": 1, "resolution": 256}
    assert list(model_mistakes(conf, axes, "pipeline")) == []
    conf.pipeline.prompt = "tokens"
    found = list(model_mistakes(conf, axes, "pipeline"))
    assert len(found) == len(said)
    for line, begin in zip(found, said, strict=True):
        key, _, rest = line.partition(": ")
        assert f"{key}: " == f"model.pipeline.text_encoders.{begin}"
        assert rest.startswith("the encoder's table holds 77 positions (model.pipeline.text_encoders.")
        assert rest.endswith(".factory.config.max_position_embeddings); accepted: 1 to 77")


def test_nested_inputs_are_overridden_as_others(call: Call, tmp_path: Path) -> None:
    dtype = "model.inputs.added_cond_kwargs.text_embeds.dtype=float32"
    (run,) = called_with(call, tmp_path, SDXL, dtype, "+model.inputs.class_labels={shape: [batch]}").runs
    inputs = run.model.inputs
    assert inputs["added_cond_kwargs"]["text_embeds"].dtype == "float32"
    assert inputs["class_labels"].shape == ["batch"]
    result = called_with(call, tmp_path, SDXL, "model.inputs.added_cond_kwargs.time_ids.fil=1")
    assert "unknown key fil in model.inputs.added_cond_kwargs.time_ids; did you mean fill?" in result.err


def test_a_file_that_is_not_python_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_models.py").write_text("class Net(:\n")
    result = called_with(call, tmp_path, {**LINEAR, "factory": {"_target_": "broken_models.Net"}})
    assert result.status == 2
    assert "broken_models.py, line 1: not Python" in result.err
    assert result.err.count("\n") == 1


def test_a_scheme_that_chooses_layers_itself(call: Call) -> None:
    result = call("quant=int8wo", "quant.config._target_=torchao.quantization.FqnToConfig")
    assert result.status == 2
    assert "quant.config._target_=torchao.quantization.FqnToConfig: chooses layers by itself" in result.err
    assert "quant.layers.include=[REGEX]" in result.err


def test_all_runs_of_a_sweep_are_checked_before_the_first(call: Call) -> None:
    result = call("-m", "model=linear", "model.inputs.input.dtype=float32,half")
    assert (result.status, result.runs) == (2, [])


def test_home_on_a_command_line(call: Call, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell leaves as it is behind `key=`."""
    monkeypatch.setenv("HOME", str(checkpoints))
    local = ("-cd", str(CONF), "model=tiny-wan", "model.weights.source=local")
    sweep = call(*local, "-m", "model.weights.id=~/plain,~/pipeline/transformer")
    found = [run.model.weights.id for run in sweep.runs]
    assert found == [str(checkpoints / "plain"), str(checkpoints / "pipeline/transformer")]
    result = call(*local, "model.weights.id=~/nowhere")
    assert result.err.startswith(f"error: model.weights.id={checkpoints}/nowhere: no folder")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frames=9"], "frames=9: flux-tiny makes no videos"),
        (["model=cogvideox-tiny", "frames=0"], "frames=0: cogvideox-tiny makes videos; give frames=9"),
        (
            ["model=cogvideox-tiny", "frames=8"],
            "((frames - 1) / 8) + 1: 7 is no multiple of 8; next to it: 8 (with resolution=64, frames=8; frames=1 or",
        ),
        (["model=flux-tiny", "resolution=100"], "side=resolution / 16: 100 is no multiple of 16"),
        (["model=ltx-video", "frames=160"], "(frames - 1) / 8 + 1: 159 is no multiple of 8"),
        (
            ["model=qwen-image-tiny", "resolution=100"],
            "side=resolution / 16: 100 is no multiple of 16; next to it: 96 and 112",
        ),
    ],
)
def test_sizes_that_a_model_does_not_take(call: Call, words: list[str], said: str) -> None:
    result = call(*words)
    assert (result.status, result.runs) == (2, [])
    assert said in result.err
