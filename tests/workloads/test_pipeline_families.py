"""Whole pipelines of several families on their small siblings: what they generate, and what takes how long."""

import inspect

import av
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from src.checks.validation import validate
from src.config.errors import ConfigError
from src.quality.media import keep_samples
from src.records.record import Outcome
from src.tasks.arms.components import component_metrics, step_times_ms
from src.timers.components import Span, Spans
from src.workloads.model import outline
from src.workloads.pipeline import assemble, pipeline_parts
from src.workloads.workload import build_workload

QUICK = (
    "target=pipeline", "dtype=float32", "model.pipeline.steps=2", "quant=int8wo", "compile=none",
    "measure.min_pairs=3", "measure.max_pairs=3", "measure.max_warmup_s=0", "measure.ceilings=false",
)  # fmt: skip
SMALLER = {  # model -> what makes it cheaper still, what it generates, calls of its denoiser in two steps
    "sd3-tiny": (("resolution=64",), (1, 3, 64, 64), 2),
    "wan-tiny": (("resolution=32", "frames=5", "model.factory.num_layers=1"), (1, 5, 3, 32, 48), 4),
}
PUBLISHED_VAES = {
    "sd3-medium": 83_819_683,
    "sdxl": 83_653_863,
    "wan2.1-1.3b": 126_892_531,
    "cogvideox-5b": 215_583_907,
    "ltx-video": 419_193_649,
    "sana": 312_250_275,
}
WITHOUT_A_CALL = ("flux2-klein-4b", "ltx-2-tiny", "qwen-image-tiny", "wan2.2-5b")
ONCE = {  # families whose class alone is asked, in one call
    "sdxl-tiny": (("resolution=64",), (1, 3, 64, 64)),
    "cogvideox-tiny": (("resolution=32", "model.factory.num_layers=1"), (1, 9, 3, 32, 48)),
    "ltx-video-tiny": (("resolution=64", "model.factory.num_layers=1"), (1, 9, 3, 64, 96)),
    "z-image-tiny": (("resolution=32",), (1, 3, 32, 32)),
}


@pytest.mark.parametrize("model", SMALLER)
def test_a_run_leaves_what_it_generated_and_says_what_took_how_long(compose, execute_run, tmp_path, model):
    smaller, shape, calls = SMALLER[model]
    record = execute_run(compose(f"model={model}", *QUICK, *smaller))
    assert record.outcome is Outcome.OK, record.reason
    for arm in ("baseline", "treated"):
        (path,) = (tmp_path / "run").glob(f"sample_{arm}_*")
        assert opened(path) == shape[1:]
        (first, *_) = record.details["component_times"][arm]
        assert {name: len(ms) for name, ms in first["calls_ms"].items()} == {"denoiser": calls, "vae": 1}
        assert len(first["steps_ms"]) == 2
        assert first["total_ms"] >= sum(map(sum, first["calls_ms"].values()))
    for prefix in ("", "baseline_"):
        told = {name: record.metrics[f"component/{prefix}{name}_ms"] for name in ("denoiser", "vae", "step")}
        assert min(told.values()) > 0
    assert record.metrics["quality/psnr_db"] > 20


@torch.no_grad()
@pytest.mark.parametrize("model", ONCE)
def test_a_family_generates_what_was_asked_for(compose, cpu, model):
    smaller, shape = ONCE[model]
    output = build_workload(
        compose(f"model={model}", "target=pipeline", "dtype=float32", "model.pipeline.steps=2", *smaller), cpu
    ).call()
    assert output.shape == shape
    assert 0 <= output.min() < output.max() <= 1


class Fed(Exception):  # noqa: N818 - what a module is called with, before it computes
    pass


def fed(workload):
    """The tensors that the denoiser is called with first: name -> shape."""
    module = workload.denoiser()

    def hear(_, args, kwargs):
        raise Fed(inspect.signature(module.forward).bind(*args, **kwargs).arguments)

    module.register_forward_pre_hook(hear, with_kwargs=True)
    with pytest.raises(Fed) as told:
        workload.call()
    given = told.value.args[0].items()
    return {name: tuple(value.shape) for name, value in given if isinstance(value, torch.Tensor)}


@torch.no_grad()
@pytest.mark.parametrize("model", ["pixart-tiny", "sd3-tiny"])
def test_a_denoiser_alone_is_fed_what_its_pipeline_feeds_it(compose, cpu, model):
    alone, inside = (
        fed(build_workload(compose(f"model={model}", f"target={target}", "dtype=float32"), cpu))
        for target in ("denoiser", "pipeline")
    )
    assert alone == inside


@pytest.mark.parametrize("model", WITHOUT_A_CALL)
def test_the_parts_of_a_family_make_its_pipeline(compose, model):
    """Without weights; what diffusers' classes do with each other, `ONCE` and a run of each family show."""
    cfg = compose(f"model={model}", "target=pipeline", "dtype=float32")
    parts = {name: outline(part.conf, torch.float32) for name, part in pipeline_parts(cfg).items()}
    pipeline = assemble(cfg, parts).pipeline
    assert all(pipeline.components[name] is part for name, part in parts.items())
    assert {
        name: pipeline.config[name] for name in cfg.model.pipeline.arguments
    } == cfg.model.pipeline.arguments


@pytest.mark.parametrize(("model", "parameters"), PUBLISHED_VAES.items())
def test_a_vae_has_the_published_size(compose, model, parameters):
    vae = outline(compose(f"model={model}").model.pipeline.vae, torch.bfloat16)
    assert sum(parameter.numel() for parameter in vae.parameters()) == parameters


def opened(path):
    """The shape of an image [3, height, width] or a video [frames, 3, height, width], none of it of one colour."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            assert any(low < high for low, high in image.getextrema())
            return (len(image.getbands()), *image.size[::-1])
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert all(frame.min() < frame.max() for frame in frames)
    height, width, bands = frames[0].shape
    return (len(frames), bands, height, width)


@pytest.mark.parametrize("shape", [(6, 3, 20, 24), (2, 5, 3, 21, 33)], ids=["images", "videos"])
def test_few_samples_are_kept_and_look_as_they_did(tmp_path, shape):
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand((*shape[:-2], 1, 1), generator=generator).expand(shape)
    paths = keep_samples("treated", smooth, tmp_path, 8)
    assert [path.name.split(".")[0] for path in paths] == [f"sample_treated_{n}" for n in (1, 2, 3, 4)][
        : shape[0]
    ]
    for path, sample in zip(paths, smooth, strict=False):
        assert (read(path) - sample[..., : shape[-2] // 2 * 2, : shape[-1] // 2 * 2]).abs().max() < 0.04


def read(path):
    if path.suffix == ".png":
        import numpy as np

        with Image.open(path) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    with av.open(str(path)) as container:
        frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return torch.stack(frames).permute(0, 3, 1, 2) / 255


def test_steps_and_what_is_left_follow_from_the_calls():
    denoiser = [Span(10, 14), Span(15, 19), Span(20, 24), Span(25, 31)]  # two calls in each of two steps
    call = Spans(50.0, {"denoiser": denoiser, "vae": [Span(32, 48)]})
    assert step_times_ms(call, 2) == [10, 11]
    assert step_times_ms(call, 3) == []
    slower = Spans(70.0, {"denoiser": denoiser, "vae": [Span(32, 68)]})
    assert component_metrics([call, slower, slower], "baseline_", 2) == {
        "component/baseline_denoiser_ms": 18,
        "component/baseline_vae_ms": 36,
        "component/baseline_rest_ms": 16,
        "component/baseline_step_ms": 10.5,
    }


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("model=cogvideox-tiny", "frames=12"), r"frames=9 or frames=17 would do"),
        (("model=wan-tiny", "resolution=72"), r"resolution=64 or resolution=96 would do"),
        (("model=sdxl-tiny", "resolution=100"), r"resolution=96 or resolution=128 would do"),
    ],
)
def test_sizes_that_do_not_divide_are_told_with_the_next_ones(compose, overrides, told):
    cfg = compose(*overrides, "target=pipeline")
    with pytest.raises(ConfigError, match=told):
        validate(OmegaConf.structured(cfg))
