from functools import partial

import diffusers
import pytest
import torch
from accelerate import init_empty_weights
from hydra.utils import get_class
from torch import nn

from src.config.errors import ConfigError
from src.config.schema.model import ModelConf, WeightsConf
from src.measurement.memory import peak_memory
from src.workloads.model import build_model, empty_model
from src.workloads.weights.parameters import size_bytes
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

CPU = torch.device("cpu")
SMALL_PIXART = ("model=pixart-sigma", "model.factory.num_layers=1")
WAN = {
    "_target_": "diffusers.WanTransformer3DModel",  # keeps modules and single parameters in float32
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 1,
}

PIXART = {
    "_target_": "diffusers.PixArtTransformer2DModel",  # a buffer that no checkpoint holds
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 1,
    "cross_attention_dim": 48,
    "caption_channels": 32,
    "sample_size": 32,
    "use_additional_conditions": False,
}
SD3 = {
    "_target_": "diffusers.SD3Transformer2DModel",  # a buffer that checkpoints hold
    "sample_size": 16,
    "num_layers": 1,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 64,
    "caption_projection_dim": 64,
    "pooled_projection_dim": 64,
    "pos_embed_max_size": 16,
}

build = partial(build_model, device=CPU, dtype=torch.bfloat16, seed=0)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten().float() for p in model.parameters()])


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: t.dtype for name, t in [*model.named_parameters(), *model.named_buffers()]}


@pytest.mark.parametrize("overrides", [SMALL_FLUX, SMALL_PIXART], ids=["flux", "pixart"])
def test_random_weights_are_real_in_the_dtype_and_frozen(compose, overrides):
    model = build(compose(*overrides).model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert isinstance(model, get_class(compose(*overrides).model.factory["_target_"]))


def test_buffers_hold_what_the_constructor_made(compose):
    conf = compose(*SMALL_PIXART).model
    arguments = {name: value for name, value in conf.factory.items() if name != "_target_"}
    ordinary = diffusers.PixArtTransformer2DModel(**arguments)
    torch.testing.assert_close(build(conf).pos_embed.pos_embed, ordinary.pos_embed.pos_embed, rtol=0, atol=0)


def test_the_seed_decides_the_weights(compose):
    conf = compose(*SMALL_FLUX).model
    first, again, other = weights(build(conf)), weights(build(conf)), weights(build(conf, seed=1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_std_and_norm_layers(compose):
    conf = compose(*SMALL_LINEAR, "model.weights.std=0.5").model
    assert build(conf).weight.float().std().item() == pytest.approx(0.5, rel=0.02)
    blocks = build(ModelConf(name="norm", factory={"_target_": "torch.nn.LayerNorm", "normalized_shape": 8}))
    assert blocks.weight.tolist() == [1.0] * 8
    assert blocks.bias.tolist() == [0.0] * 8


def test_no_float32_copy_is_ever_held(compose, cpu):
    conf = compose("model=linear", "model.dims.K=6144", "model.dims.N=6144").model
    build(compose(*SMALL_LINEAR).model)
    with peak_memory(cpu) as before:
        pass
    with peak_memory(cpu) as during:
        model = build(conf)
    if not before.gib:
        pytest.skip("this container forbids resetting the peak")
    grown_bytes = (during.gib["rss"] - before.gib["rss"]) * 2**30
    assert grown_bytes < 1.5 * size_bytes(model)


@pytest.mark.parametrize("factory", [WAN, PIXART, SD3], ids=lambda factory: factory["_target_"])
def test_dtypes_are_those_of_from_pretrained(factory, tmp_path):
    random = build(ModelConf(name="tiny", factory=factory))
    random.save_pretrained(tmp_path)
    loaded = type(random).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert dtypes(random) == dtypes(loaded)
    assert (torch.float32 in dtypes(random).values()) == (factory is not SD3)


def test_local_weights_come_back_the_same(compose, tmp_path):
    conf = compose(*SMALL_FLUX).model
    original = build(conf)
    original.save_pretrained(tmp_path / "transformer")
    conf.weights = WeightsConf(source="local", id=str(tmp_path), subfolder="transformer")
    loaded = build(conf, seed=5)
    assert torch.equal(weights(loaded), weights(original))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((*SMALL_FLUX, "model.weights.source=hub"), "model.weights.id=null"),
        ((*SMALL_FLUX, "model.weights.source=local"), "model.weights.id=null"),
        (
            (*SMALL_FLUX, "model.weights.source=local", "model.weights.id=/no/where"),
            r"model\.weights\.id=/no/where: no folder /no/where",  # and the hub is not asked
        ),
        (
            (*SMALL_FLUX, "model.factory._target_=diffusers.FluxTransformr"),
            r"model\.factory\._target_=diffusers\.FluxTransformr: cannot be imported: ",
        ),
        (
            (*SMALL_LINEAR, "model.weights.source=hub", "model.weights.id=a/b"),
            "Linear has no from_pretrained",
        ),
    ],
)
def test_weights_that_cannot_be_loaded(compose, overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(compose(*overrides).model)


def test_flux_dev_has_the_size_of_the_original(compose):
    factory = dict(compose("model=flux-dev").model.factory)
    with init_empty_weights():
        model = get_class(factory.pop("_target_"))(**factory)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(11.901e9, rel=1e-3)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, 2 * 256 * 128), (torch.float32, 4 * 256 * 128)],
)
def test_size_counts_bytes_of_shared_tensors_once(dtype, expected):
    linear = nn.Linear(256, 128, bias=False, dtype=dtype)
    twice = nn.Sequential(linear, linear)
    assert size_bytes(twice) == expected


@pytest.mark.parametrize("factory", [WAN, PIXART, SD3], ids=lambda factory: factory["_target_"])
def test_an_empty_model_takes_the_weights_of_another(factory):
    conf = ModelConf(name="tiny", factory=factory)
    full, empty = build(conf), empty_model(conf, CPU, torch.bfloat16)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert not any(buffer.is_meta for buffer in empty.buffers())
    empty.load_state_dict(full.state_dict(), assign=True)
    assert dtypes(empty) == dtypes(full)
    assert torch.equal(weights(empty), weights(full))
    assert all(torch.equal(a, b) for a, b in zip(empty.buffers(), full.buffers(), strict=True))
    assert not empty.training


def test_an_empty_model_of_local_weights_needs_only_their_config(compose, tmp_path):
    conf = compose(*SMALL_FLUX).model
    original = build(conf)
    original.save_config(tmp_path / "transformer")
    conf.weights = WeightsConf(source="local", id=str(tmp_path), subfolder="transformer")
    conf.factory["num_layers"] = 7  # the file decides
    empty = empty_model(conf, CPU, torch.bfloat16)
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in original.named_parameters()
    }


def test_an_empty_model_of_a_class_without_a_config(compose):
    with pytest.raises(ConfigError, match="Linear cannot be made from its config alone"):
        empty_model(
            compose(*SMALL_LINEAR, "model.weights.source=local", "model.weights.id=x").model,
            CPU,
            torch.bfloat16,
        )


def test_what_a_factory_is_given_is_made_first_wherever_it_stands():
    def linear(width: int) -> dict[str, object]:
        return {"_target_": "torch.nn.Linear", "in_features": width, "out_features": width}

    nested = {"_args_": [linear(1), linear(2)], "also": [linear(3)], "named": {"a": linear(4)}}
    conf = ModelConf(name="any", factory={"_target_": "tests.workloads.factories.chain", **nested})
    assert [layer.in_features for layer in build(conf)] == [1, 2, 3, 4]
    assert all(each.dtype is torch.bfloat16 for each in build(conf).parameters())
    assert [layer.in_features for layer in empty_model(conf, CPU, torch.bfloat16)] == [1, 2, 3, 4]
