"""Real prompts: a pipeline that save_pretrained wrote, its weights, tokenizers and scheduler."""

import json
import sys

import pytest
import torch
from omegaconf import OmegaConf

from src.checks.validation import validate
from src.config.errors import ConfigError
from src.config.schema.model import WeightsConf
from src.workloads.weights.saved import Saved
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX

FLUX = (*SMALL_FLUX, "dtype=float32", "target=pipeline", "model.pipeline.steps=1")
CAT, LONG = "a cat on a mat", "a " * 80


@pytest.fixture(scope="module")
def folder(compose, tmp_path_factory):
    """FLUX's pipeline with small parts; its words are those of CAT, its schedule is another one than the model's."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    device = pytest.importorskip("src.devices.device").CpuDevice(compose().gpu).open()
    pipeline = build_workload(compose(*FLUX, "model.pipeline.prompt=tokens"), device).module.pipeline
    words = {word: number for number, word in enumerate(["<pad>", "<end>", *dict.fromkeys(CAT.split())])}
    base = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizers = [
        PreTrainedTokenizerFast(
            tokenizer_object=base, pad_token="<pad>", eos_token="<end>", model_max_length=most
        )
        for most in (77, 512)
    ]
    parts = {**pipeline.components, "tokenizer": tokenizers[0], "tokenizer_2": tokenizers[1]}
    parts["scheduler"] = FlowMatchEulerDiscreteScheduler(shift=2.5)
    path = tmp_path_factory.mktemp("flux")
    type(pipeline)(**parts).save_pretrained(path)
    return path


@pytest.fixture
def real(compose, folder):
    """real(*overrides): a configuration that takes all from the folder."""
    source = f"model.pipeline.weights={{source: local, id: {folder}}}"
    return lambda *overrides: compose(*FLUX, source, *overrides)


@torch.no_grad()
def test_prompts_go_through_the_folders_own_parts(real, cpu):
    workload = build_workload(real(f"model.pipeline.prompts=[{CAT},a mat on a cat]", "batch=2"), cpu)
    assert list(workload.components()) == ["denoiser", "vae", "text_encoder", "text_encoder_2"]
    assert workload.module.pipeline.scheduler.config.shift == 2.5
    assert workload.module.pipeline.tokenizer.model_max_length == 77
    images = workload.call()
    assert torch.equal(workload.call(), images)
    swapped = dict(workload.kwargs, prompt=workload.kwargs["prompt"][::-1])
    assert not torch.equal(workload.module(**swapped)[0], images[0])


def test_a_prompt_that_would_be_cut_is_refused(real, cpu):
    with pytest.raises(
        ConfigError, match=r"prompts\[0\]: 80 tokens by tokenizer, .* takes are 64: its end would"
    ):
        build_workload(real(f"model.pipeline.prompts=[{LONG}]"), cpu)


def test_an_index_has_no_other_library_imported(tmp_path):
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "scheduler": ["this", "Zen"]})
    )
    sys.modules.pop("this", None)
    with pytest.raises(
        ConfigError, match="its scheduler is of this, and only classes of diffusers and trans"
    ):
        Saved(WeightsConf(source="local", id=str(tmp_path))).part("scheduler")
    assert "this" not in sys.modules


def test_each_part_has_the_folders_weights_but_for_its_own(real, folder):
    own = "model.pipeline.vae.weights={source: hub, id: somebody/vae}"
    model = real(f"model.pipeline.prompts=[{CAT}]", own).model
    assert model.weights.folder() == folder / "transformer"
    assert model.pipeline.text_encoders["text_encoder"].weights.folder() == folder / "text_encoder"
    assert model.pipeline.vae.weights.id == "somebody/vae"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("model.pipeline.prompts=[one,two]",), r"prompts: 2 texts with batch=1; give batch=2"),
        (("model=wan-tiny",), r"of FluxPipeline, and this model's pipeline is WanPipeline; give another"),
        (
            ("model.pipeline.weights.id={folder}/none",),
            r"/none: no such folder: .*/none; `hf download OWNER/NAME",
        ),
        (("model.pipeline.weights.id={folder}/vae",), r"no model_index.json that names .*: model.weights"),
        (
            ("model.pipeline.weights.source=random", "model.pipeline.prompts=[cat]"),
            r"understand nothing, and have no",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(compose, folder, given, told):
    overrides = [each.format(folder=folder) for each in given]
    source = f"model.pipeline.weights={{source: local, id: {folder}}}"
    cfg = compose(
        "target=pipeline", *(["model=flux-tiny"] if "model=wan-tiny" not in given else []), source, *overrides
    )
    with pytest.raises(ValueError, match=told) as raised:
        validate(OmegaConf.structured(cfg))
    assert "\n" not in str(raised.value)


def test_weights_of_another_family(compose, folder):
    assert json.loads((folder / "transformer" / "config.json").read_text())["_class_name"].startswith("Flux")
    cfg = compose("model=wan-tiny", f"model.weights={{source: local, id: {folder}, subfolder: transformer}}")
    with pytest.raises(ValueError, match="weights of FluxTransformer2DModel, and the model's class is Wan"):
        validate(OmegaConf.structured(cfg))
