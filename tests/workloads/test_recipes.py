"""What a recipe does to a model, and what it refuses: diffusers' own classes, small."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn

from src.config.schema.recipe import RecipeConf
from src.outcomes import RunEndedError
from src.profiling.attention import attention_kinds
from src.workloads.recipe import changes, recipe_refusals, restructured

SIDE = 4


@pytest.fixture(scope="module")
def flux():
    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 6, 6],
    )  # fmt: skip
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def call():
    torch.manual_seed(1)
    given = {
        "hidden_states": torch.randn(1, SIDE * SIDE, 8), "encoder_hidden_states": torch.randn(1, 4, 32),
        "pooled_projections": torch.randn(1, 32), "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(SIDE * SIDE, 3), "txt_ids": torch.zeros(4, 3), "return_dict": False,
    }  # fmt: skip

    def called(model):
        with torch.no_grad():
            return model(**given)[0]

    return called


def made(model, **recipe):
    found = copy.deepcopy(model)
    restructured(found, RecipeConf(**recipe))
    return found


def linear_calls(model, call):
    calls = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda *_, name=name: calls.append(name.rpartition(".")[2]))
    call(model)
    return calls


def test_fused_projections_compute_the_same_with_fewer_layers(flux, call):
    fused = made(flux, fused_qkv=True)
    torch.testing.assert_close(call(fused), call(flux))
    calls = linear_calls(fused, call)
    assert {"to_qkv", "to_added_qkv"} <= {*calls}
    assert not {"to_q", "to_k", "to_v"} & {*calls}
    assert not any(parameter.requires_grad for parameter in fused.parameters())


@pytest.mark.parametrize("given", ["math", "flash", "diffusers._native_math"])
def test_an_attention_of_one_kind_runs_that_kind_in_copies_too(flux, call, given):
    model = copy.deepcopy(made(flux, attention=given))
    assert attention_kinds(lambda: call(model)) == [given.rpartition("_")[2]]
    torch.testing.assert_close(call(model), call(flux))
    assert attention_kinds(lambda: call(flux)) == ["flash"]  # another model of the process is as it was


def test_a_kernel_that_does_not_take_the_tensors_is_unsupported(flux, call):
    recipe = RecipeConf(attention="efficient")
    refused = pytest.raises(RunEndedError, match=r"recipe.attention=efficient does not take .*No viable")
    with refused, recipe_refusals(recipe):
        call(made(flux, attention="efficient"))


def test_convolutions_lie_channels_last_and_compute_the_same():
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8).eval()
    latents = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        before = vae.decode(latents).sample
        restructured(vae, RecipeConf(memory_format="channels_last"))
        assert vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(vae.decode(latents).sample, before, atol=1e-5, rtol=1e-4)


def test_a_vae_is_tiled_and_sliced(flux):
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    restructured(nn.Module(), RecipeConf(vae_tiling=True, vae_slicing=True), vae)
    assert vae.use_tiling
    assert vae.use_slicing


@pytest.mark.parametrize(
    ("model", "recipe", "said"),
    [
        (nn.Linear(2, 2), {"fused_qkv": True}, "Linear has no fuse_qkv_projections"),
        (nn.Linear(2, 2), {"attention": "math"}, "Linear has no attention of diffusers"),
        (nn.Linear(2, 2), {"memory_format": "channels_last"}, "Linear has no convolutions"),
        (None, {"memory_format": "channels_last"}, "FluxTransformer2DModel has no convolutions"),
        (None, {"attention": "diffusers.flash"}, "flash-attn"),
        (None, {"attention": "diffusers.none_such"}, "diffusers has no backend none_such"),
    ],
)
def test_what_a_model_cannot_have_is_said(flux, model, recipe, said):
    with pytest.raises(RunEndedError, match=said) as caught:
        made(model or flux, **recipe)
    assert caught.value.remedy


def test_a_vae_without_tiles_is_said():
    with pytest.raises(RunEndedError, match=r"recipe.vae_tiling: Linear cannot: it has no enable_tiling"):
        restructured(nn.Module(), RecipeConf(vae_tiling=True), nn.Linear(2, 2))


def test_what_does_not_change_a_model_is_not_told_apart():
    assert changes(RecipeConf()) == changes(RecipeConf(cuda_graphs=True, offload="model"))
    assert changes(RecipeConf()) != changes(RecipeConf(fused_qkv=True))
