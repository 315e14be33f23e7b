"""Text encoders as parts of a pipeline: random token ids are encoded at every call, as a prompt is."""

import pytest
import torch
from accelerate import init_empty_weights
from hydra.utils import get_class, instantiate
from torch import nn

from src.checks.validation import validate
from src.config.schema.model import ComponentConf, TextEncoderConf
from src.treatments.layers import capture_layers
from src.workloads.model import build_model, empty_model
from src.workloads.tokens import PROMPT, TokenIds
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX

CPU = torch.device("cpu")
FLUX = (
    *SMALL_FLUX,
    "dtype=float32",
    "target=pipeline",
    "model.pipeline.steps=1",
    "model.pipeline.prompt=tokens",
)
SMALL_T5 = [f"model.pipeline.text_encoders.text_encoder.factory.config.{key}" for key in
            ("vocab_size=100", "d_model=64", "d_kv=8", "d_ff=64", "num_heads=2", "num_layers=1")]  # fmt: skip
PIXART = ("model=pixart-sigma", "dtype=float32", "target=pipeline", "resolution=64", "model.pipeline.steps=1",
          "model.factory.num_layers=1", "model.factory.num_attention_heads=2",
          "model.factory.cross_attention_dim=144", "model.factory.caption_channels=64",
          "model.pipeline.vae.factory.layers_per_block=1",
          "model.pipeline.vae.factory.block_out_channels=[32,32,32,32]", "model.pipeline.prompt=tokens",
          *SMALL_T5)  # fmt: skip
T5 = {"_target_": "transformers.T5EncoderModel", "config": {
    "_target_": "transformers.T5Config", "vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 2,
    "num_layers": 2, "feed_forward_proj": "gated-gelu"}}  # fmt: skip
CLIP = {"_target_": "transformers.CLIPTextModel", "config": {
    "_target_": "transformers.CLIPTextConfig", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 32}}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


# ---- models


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("factory", [T5, CLIP], ids=["t5", "clip"])
def test_dtypes_buffers_and_ties_are_those_of_from_pretrained(factory, dtype, tmp_path):
    model = build_model(ComponentConf(factory=factory), CPU, dtype, 0)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=dtype)
    mine, theirs = ({**m.state_dict(), **dict(m.named_buffers())} for m in (model, loaded))
    assert {n: t.dtype for n, t in mine.items()} == {n: t.dtype for n, t in theirs.items()}
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert size_bytes(model) == size_bytes(loaded)
    assert not model.training
    assert {p.data_ptr() for p in model.parameters()}.__len__() == len(list(model.parameters()))


def test_what_is_tied_stays_tied():
    model = build_model(ComponentConf(factory=T5), CPU, torch.bfloat16, 0)
    assert model.shared.weight is model.encoder.embed_tokens.weight
    empty = empty_model(ComponentConf(factory=T5), CPU, torch.bfloat16)
    assert empty.shared.weight is empty.encoder.embed_tokens.weight


@pytest.mark.parametrize(
    ("model", "encoder", "parameters"),
    [
        ("flux-dev", "text_encoder", 123_060_480),  # CLIP ViT-L/14's text model
        ("flux-dev", "text_encoder_2", 4_762_310_656),  # T5 v1.1 XXL's encoder
        ("pixart-sigma", "text_encoder", 4_762_310_656),
    ],
)
def test_true_sizes(compose, model, encoder, parameters):
    conf = compose(f"model={model}").model.pipeline
    with init_empty_weights():
        factory = conf.text_encoders[encoder].factory
        built = get_class(factory["_target_"])(instantiate(factory["config"], _convert_="all"))
    built.tie_weights()
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters


@pytest.mark.parametrize(("model", "parameters"), [("flux-dev", 83_819_683), ("pixart-sigma", 83_653_863)])
def test_the_vae_at_its_true_size_has_few_linear_layers(compose, model, parameters):
    factory = dict(compose(f"model={model}").model.pipeline.vae.factory)
    with init_empty_weights():
        vae = get_class(factory.pop("_target_"))(**factory)
    assert sum(parameter.numel() for parameter in vae.parameters()) == parameters
    linears = {name: m for name, m in vae.decoder.named_modules() if isinstance(m, nn.Linear)}
    assert {name.rsplit("attentions.0.")[-1] for name in linears} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert {name.split(".")[0] for name in linears} == {"mid_block"}
    assert sum(m.weight.numel() for m in linears.values()) / parameters < 0.02


# ---- in a pipeline


@pytest.mark.parametrize("overrides", [FLUX, PIXART], ids=["flux", "pixart"])
def test_a_call_encodes_the_token_ids(compose, cpu, overrides):
    workload = build_workload(compose(*overrides, "batch=2"), cpu)
    assert workload.kwargs["prompt"] == [PROMPT, PROMPT]
    assert not {"prompt_embeds", "pooled_prompt_embeds"} & set(workload.kwargs)
    images = workload.call()
    assert torch.equal(workload.call(), images)
    assert torch.equal(workload.twin().call(), images)
    tokenizers = [part for part in vars(workload.module.pipeline).values() if isinstance(part, TokenIds)]
    assert tokenizers
    for tokenizer in tokenizers:
        tokenizer.prompts = tokenizer.prompts.flip(1)
    assert not torch.equal(workload.call(), images)


def test_the_layer_table_names_the_component(compose, cpu):
    cfg = compose(*FLUX, "quant.components=[text_encoder,text_encoder_2]", "batch=2")
    rows, _ = capture_layers(build_workload(cfg, cpu), cfg.quant.components)
    found = {component: [r for r in rows if r.component == component] for component in
             ("denoiser", "vae", "text_encoder", "text_encoder_2")}  # fmt: skip
    assert all(found.values())
    assert {row.M for row in found["text_encoder"]} == {2 * 77}
    assert {row.M for row in found["text_encoder_2"]} == {2 * 64}
    assert {row.reason for row in found["text_encoder"] + found["text_encoder_2"]} == {""}
    assert {row.reason for row in found["denoiser"]} == {"denoiser is not in quant.components"}
    assert "encoder.block.0.layer.1.DenseReluDense.wo" in {row.name for row in found["text_encoder_2"]}
    assert {row.calls for row in found["text_encoder_2"]} == {1}


def test_an_empty_prompt_is_encoded_too(compose, cpu):
    rows, _ = capture_layers(build_workload(compose(*PIXART), cpu), ["text_encoder"])
    assert {row.calls for row in rows if row.component == "text_encoder"} == {2}


def test_without_tokens_there_are_no_text_encoders(compose, cpu):
    workload = build_workload(compose(*FLUX, "model.pipeline.prompt=embeddings"), cpu)
    assert list(workload.components()) == ["denoiser", "vae"]
    assert workload.module.pipeline.text_encoder is None


# ---- token ids


def test_ids_end_and_pad_as_configured():
    conf = TextEncoderConf(tokens=6, end=9, pad=2)
    tokenizer = TokenIds(conf, vocabulary=10, batch=2, seed=0)
    full = tokenizer([PROMPT, PROMPT], padding="max_length", max_length=512, truncation=True)
    assert full.input_ids.shape == (2, 6)
    assert (full.input_ids[:, -1] == 9).all()
    assert ((full.input_ids[:, :-1] >= 3) & (full.input_ids[:, :-1] < 9)).all()
    assert full.attention_mask.all()
    empty = tokenizer("")
    assert empty.input_ids.tolist() == [[9, 2, 2, 2, 2, 2]]
    assert empty.attention_mask.tolist() == [[1, 0, 0, 0, 0, 0]]
    again = TokenIds(conf, vocabulary=10, batch=2, seed=0)
    assert torch.equal(again.prompts, tokenizer.prompts)
    assert not torch.equal(TokenIds(conf, 10, 2, seed=1).prompts, tokenizer.prompts)


def test_a_model_without_text_encoders(compose):
    from omegaconf import OmegaConf

    cfg = compose(*FLUX)
    cfg.model.pipeline.text_encoders = {}
    with pytest.raises(ValueError, match="flux-tiny has no model"):
        validate(OmegaConf.structured(cfg))
