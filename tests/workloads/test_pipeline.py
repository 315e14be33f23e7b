"""Whole pipelines: diffusers' own call with random weights, small enough for a CPU; FLUX.1-dev on the meta device."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import init_empty_weights
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch import nn

from src.checks.validation import validate
from src.compilation.scopes import compile_module, compiler_counts
from src.config.errors import ConfigError
from src.config.schema.root import CompileConf
from src.timers.components import timed_components
from src.treatments.layers import capture_layers
from src.treatments.scheme import make_scheme
from src.workloads.dims import resolve
from src.workloads.pipeline import ImagePipeline, build_pipeline
from src.workloads.workload import build_workload
from tests.conftest import SMALL_FLUX

FLUX = (*SMALL_FLUX, "dtype=float32", "target=pipeline", "model.pipeline.steps=2")
PIXART = ("model=pixart-tiny", "dtype=float32", "target=pipeline", "resolution=64", "model.pipeline.steps=3")
KEPT = "vae is not in quant.components"
META = torch.device("meta")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("overrides", [FLUX, PIXART], ids=["flux", "pixart"])
def test_a_generation_is_images_and_the_same_at_every_call(compose, cpu, overrides):
    workload = build_workload(compose(*overrides, "batch=2"), cpu)
    images = workload.call()
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert not torch.equal(images[0], images[1])
    assert torch.equal(workload.call(), images)  # the scheduler has started afresh
    assert torch.equal(workload.twin().call(), images)


def test_the_seed_decides_the_images(compose, cpu):
    first, again, other = (build_workload(compose(*FLUX, f"seed={seed}"), cpu).call() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_prompt_and_latents_reach_the_image(compose, cpu):
    workload = build_workload(compose(*FLUX), cpu)
    images, kwargs = workload.call(), dict(workload.kwargs)
    workload.kwargs["prompt_embeds"] = kwargs["prompt_embeds"].flip(1) * 2
    assert not torch.equal(workload.call(), images)
    workload.kwargs = kwargs
    workload.module.seed += 1
    assert not torch.equal(workload.call(), images)


def test_a_twin_shares_nothing(compose, cpu):
    workload = build_workload(compose(*FLUX), cpu)
    twin = workload.twin()
    assert twin.module.pipeline.transformer is twin.denoiser()
    assert twin.module.pipeline.vae is twin.module.vae
    assert twin.module.pipeline.scheduler is not workload.module.pipeline.scheduler
    images = workload.call()
    next(twin.denoiser().parameters()).fill_(float("nan"))
    assert torch.equal(workload.call(), images)
    assert twin.call().isnan().any()


def test_every_linear_that_is_called_is_listed_with_the_steps(compose, cpu):
    cfg = compose(*FLUX, "batch=2", "model.pipeline.steps=3")
    workload = build_workload(cfg, cpu)
    rows, _ = capture_layers(workload)
    linears = {n for n, m in workload.denoiser().named_modules() if isinstance(m, nn.Linear)}
    assert {row.fqn for row in rows if not row.reason} == {f"transformer.{name}" for name in linears}
    assert {row.calls for row in rows if not row.reason} == {3}
    feed_forward = next(row for row in rows if row.fqn == "transformer.transformer_blocks.0.ff.net.0.proj")
    assert feed_forward.shape == (2 * 16, 128, 512)
    decoder = [row for row in rows if row.fqn.startswith("vae.decoder.")]
    assert len(decoder) == 4
    assert {(row.calls, row.reason) for row in decoder} == {(1, KEPT)}


def test_guidance_doubles_the_denoisers_batch(compose, cpu):
    def rows_of_a_block(*overrides):
        rows, _ = capture_layers(build_workload(compose(*PIXART, *overrides), cpu))
        return next(row.M for row in rows if row.fqn.endswith("attn1.to_q"))

    assert rows_of_a_block() == 2 * rows_of_a_block("model.pipeline.guidance=1")


def test_only_the_denoiser_is_quantized(compose, cpu):
    cfg = compose(*FLUX, "quant=int8wo")
    workload = build_workload(cfg, cpu)
    rows, _ = capture_layers(workload)
    images = workload.call()
    make_scheme(cfg.quant).apply(workload, rows, SimpleNamespace(device=cpu, cfg=cfg))
    assert {(row.scheme, row.reason) for row in rows} == {("int8wo", ""), ("", KEPT)}
    for row in rows:
        layer = workload.module.get_submodule(row.fqn)
        assert (type(layer.weight) is nn.Parameter) == (row.reason == KEPT)
    quantized = workload.call()
    assert not torch.equal(quantized, images)
    assert (quantized - images).abs().mean() < 0.02


@pytest.mark.parametrize(("scope", "graphs"), [("none", 0), ("module", 1), ("regional", 2)])
def test_the_denoiser_is_compiled_and_all_steps_share_its_graphs(compose, cpu, scope, graphs):
    workload = build_workload(compose(*FLUX), cpu)
    images, before = workload.call(), compiler_counts()
    compile_module(workload.denoiser(), CompileConf(name=scope, scope=scope, backend="aot_eager"))
    assert torch.allclose(workload.call(), images, atol=0.05)
    calls = timed_components(workload.call, workload.components(), "cpu").calls
    assert {name: len(spans) for name, spans in calls.items()} == {"denoiser": 2, "vae": 1}
    assert "__call__" not in vars(type(workload.denoiser()))
    assert "decode" not in vars(workload.module.vae)
    assert compiler_counts().since(before).graphs == graphs


def test_nan_in_the_denoiser_is_seen_in_the_image(compose, cpu):
    workload = build_workload(compose(*FLUX), cpu)
    for parameter in workload.denoiser().parameters():
        parameter.fill_(float("inf"))
    assert workload.call().isnan().any()


@pytest.mark.parametrize(("model", "vae_parameters"), [("flux-dev", 83_819_683), ("flux-tiny", 998_771)])
def test_a_real_size_runs_on_the_meta_device(compose, monkeypatch, model, vae_parameters):
    """FLUX.1-dev: 28 steps of 57 blocks and the decoder to 1024 px, as shapes; its VAE has the published size."""
    cfg = compose(f"model={model}", "target=pipeline", "batch=2", "model.pipeline.steps=2")
    monkeypatch.setattr("src.workloads.pipeline.build_model", lambda conf, *_: on_meta(conf))
    dims = resolve(cfg.model.dims, {"batch": cfg.batch, "resolution": cfg.resolution}, "model.dims")
    denoiser = on_meta(cfg.model)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", NoGenerator)
        module, _, arguments = build_pipeline(cfg, denoiser, dims, META)
        images = module(**arguments)
    assert images.shape == (2, 3, cfg.resolution, cfg.resolution)
    assert sum(parameter.numel() for parameter in module.vae.parameters()) == vae_parameters


@pytest.mark.parametrize("model", ["flux-tiny", "flux-dev", "pixart-sigma"])
def test_arguments_are_those_of_the_class(compose, model):
    conf = compose(f"model={model}").model.pipeline
    accepted = inspect.signature(get_class(conf._target_).__call__).parameters
    assert {*conf.inputs, *conf.call, "generator", "output_type", "num_inference_steps"} <= set(accepted)


def test_a_component_that_the_class_does_not_have(compose, cpu):
    cfg = compose(*FLUX, "model.pipeline.denoiser=unet")
    with pytest.raises(
        ConfigError, match=r"model\.pipeline: FluxPipeline has no component unet; .*transformer"
    ):
        build_workload(cfg, cpu)


def test_a_shape_that_names_no_dimension(compose, cpu):
    cfg = compose(*FLUX, "model.pipeline.inputs.prompt_embeds.shape=[batch,tokens]")
    with pytest.raises(ConfigError, match=r"model\.pipeline\.inputs\.prompt_embeds\.shape=tokens"):
        build_workload(cfg, cpu)


def test_a_model_without_a_pipeline_has_no_such_target(compose):
    cfg = replace(compose("model=linear"), target="pipeline")
    with pytest.raises(
        ConfigError, match=r"target=pipeline: model linear has no such target; .*denoiser, linear"
    ):
        validate(OmegaConf.structured(cfg))


class NoGenerator:
    """There is none on the meta device. A class, as annotations of what is imported meanwhile name it."""

    def __init__(self, device):
        self.device = device

    def manual_seed(self, seed):
        """Seed nothing."""


def on_meta(conf):
    factory = dict(conf.factory)
    with init_empty_weights():
        model = get_class(factory.pop("_target_"))(**factory)
    return model.to(META, torch.bfloat16).eval()


def test_it_is_one_module(compose, cpu):
    module = build_workload(compose(*FLUX), cpu).module
    assert isinstance(module, ImagePipeline)
    assert [name for name, _ in module.named_children()] == ["transformer", "vae"]
    assert {p.dtype for p in module.parameters()} == {torch.float32}
