import inspect

import pytest
import torch
from torch import nn

from src.config.errors import ConfigError
from src.workloads.dims import resolve
from src.workloads.inputs import coordinates, make_inputs
from src.workloads.workload import Workload, build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

CPU = torch.device("cpu")


def inputs_of(cfg, seed=0):
    dims = resolve(cfg.model.dims, {"batch": cfg.batch, "resolution": cfg.resolution}, "model.dims")
    return make_inputs(cfg.model, dims, CPU, torch.bfloat16, seed)


def flat(output):
    return torch.cat([t.float().flatten() for t in torch.utils._pytree.tree_leaves(output)])


@pytest.mark.parametrize(
    ("overrides", "shapes"),
    [
        (("model=linear", "batch=3"), {"input": (768, 4096)}),
        (
            ("model=flux-tiny", "batch=2", "resolution=512"),
            {
                "hidden_states": (2, 1024, 64),
                "encoder_hidden_states": (2, 64, 512),
                "pooled_projections": (2, 256),
                "timestep": (2,),
                "img_ids": (1024, 3),
                "txt_ids": (64, 3),
                "guidance": (2,),
            },
        ),
        (
            ("model=pixart-sigma",),
            {
                "hidden_states": (1, 4, 128, 128),
                "encoder_hidden_states": (1, 300, 4096),
                "encoder_attention_mask": (1, 300),
                "timestep": (1,),
            },
        ),
    ],
)
def test_shapes_follow_batch_and_resolution(compose, overrides, shapes):
    inputs = inputs_of(compose(*overrides))
    found = {name: tuple(t.shape) for name, t in inputs.items() if isinstance(t, torch.Tensor)}
    assert found == shapes


def test_call_arguments_are_passed_on(compose):
    inputs = inputs_of(compose("model=pixart-sigma"))
    assert inputs["return_dict"] is False
    assert inputs["added_cond_kwargs"] == {"resolution": None, "aspect_ratio": None}


def test_fill_and_dtype(compose):
    inputs = inputs_of(compose("model=flux-tiny"))
    assert inputs["guidance"].dtype == torch.float32
    assert inputs["guidance"].tolist() == [4.0]
    assert inputs["timestep"].dtype == torch.bfloat16


def test_the_seed_decides_the_inputs(compose):
    cfg = compose("model=flux-tiny")
    first, again, other = (inputs_of(cfg, seed)["hidden_states"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_inputs_differ_from_each_other(compose):
    inputs = inputs_of(compose("model=flux-tiny"))
    image, text = inputs["hidden_states"].flatten(), inputs["encoder_hidden_states"].flatten()
    assert not torch.equal(image[:1000], text[:1000])


def test_coordinates_are_those_of_each_cell():
    ids = coordinates([1, 2, 3], None, CPU, torch.int64)
    assert ids.tolist() == [[0, row, column] for row in range(2) for column in range(3)]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("[batch, tokens]", r"model\.inputs\.input\.shape=tokens: no dimension 'tokens'"),
        ("[batch - 1, K]", r"gives \[0, 256\]; a dimension is at least 1"),
        ("[batch - 2, K]", r"gives \[-1, 256\]; a dimension is at least 1"),
    ],
)
def test_inputs_of_impossible_shapes(compose, shape, message):
    cfg = compose(*SMALL_LINEAR, f"model.inputs.input.shape={shape}")
    with pytest.raises(ConfigError, match=message):
        inputs_of(cfg)


@torch.no_grad()
@pytest.mark.parametrize("target", ["linear", "block"])
def test_target_gets_what_it_sees_inside_the_whole_model(compose, cpu, target):
    cfg = compose(*SMALL_FLUX)
    whole = build_workload(cfg, cpu)
    seen = []
    part = whole.module.get_submodule(cfg.model.targets[target])
    part.register_forward_hook(lambda _module, _args, output: seen.append(flat(output)))
    whole.call()

    cfg.target = target
    workload = build_workload(cfg, cpu)
    assert torch.equal(flat(workload.call()), seen[0])
    linears = [m for m in workload.module.modules() if isinstance(m, nn.Linear)]
    assert (len(linears) == 1) == (target == "linear")


@pytest.mark.parametrize(
    ("overrides", "learned"),
    [
        ((*SMALL_FLUX, "task=training"), {"hidden_states", "encoder_hidden_states", "temb"}),
        (("model=sdxl-tiny", "task=training"), {"hidden_states"}),  # its text comes from outside
        (("model=sana-tiny", "task=training"), {"hidden_states", "encoder_hidden_states", "timestep"}),
        (SMALL_FLUX, set()),
    ],
)
def test_in_a_training_requires_grad_what_earlier_layers_computed(compose, cpu, overrides, learned):
    """Neither FLUX's rotary tables nor Sana's mask."""
    workload = build_workload(compose(*overrides, "resolution=64", "target=block", "dtype=float32"), cpu)
    named = inspect.signature(workload.module.forward).parameters
    given = dict(zip(named, workload.args, strict=False)) | workload.kwargs
    leaves = [(name, leaf) for name in given for leaf in torch.utils._pytree.tree_leaves(given[name])]
    assert {name for name, leaf in leaves if getattr(leaf, "requires_grad", False)} == learned
    assert not any(weight.requires_grad for weight in workload.module.parameters())


@torch.no_grad()
def test_denoiser_is_the_whole_model(compose, cpu):
    workload = build_workload(compose(*SMALL_FLUX, "batch=2"), cpu)
    (output,) = workload.call()
    assert output.shape == (2, 16, 64)
    assert torch.isfinite(output).all()


@torch.no_grad()
def test_linear_model_can_be_compiled_as_a_module(compose, cpu):
    workload = build_workload(compose(*SMALL_LINEAR), cpu)
    assert not isinstance(workload.module, nn.Linear)
    assert workload.call().shape == (16, 128)


@torch.no_grad()
def test_twin_has_equal_weights_of_its_own(compose, cpu):
    workload = build_workload(compose(*SMALL_LINEAR), cpu)
    twin = workload.twin()
    assert isinstance(twin, Workload)
    assert torch.equal(workload.call(), twin.call())
    twin.module.inner.weight.zero_()
    assert twin.call().abs().sum() == 0
    assert workload.call().abs().sum() > 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("transformer_blocks.7", "model.targets.part=transformer_blocks.7: .*7"),
        (
            "transformer_blocks",
            "model.targets.part=transformer_blocks: a ModuleList that the model's forward does not",
        ),
    ],
)
def test_a_target_that_cannot_be_cut_out(compose, cpu, path, message):
    with pytest.raises(ConfigError, match=message):
        build_workload(compose(*SMALL_FLUX, f"+model.targets.part={path}", "target=part"), cpu)
