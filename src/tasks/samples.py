"""Pictures that a denoiser draws from given labels and noise: what a quantization does to them, told and shown."""

from dataclasses import replace

import torch
from torch import nn

from src.config.schema.model import DENOISER, PIPELINE
from src.context import RunContext
from src.quality.images import psnr
from src.quality.pictures import keep_pictures
from src.serialization.package import without_packages
from src.tasks.arms.arm import Arm
from src.tasks.arms.untreated import Untreated
from src.workloads.dims import resolve
from src.workloads.inputs import make_inputs
from src.workloads.model import build_model
from src.workloads.pipeline import assemble

_WHERE = "model.pipeline"
_LABELS = "class_labels"  # among the pipeline's inputs


def compare_samples(given: Untreated, treated: Arm, run: RunContext) -> None:
    """What both arms draw: PSNR, how often the classifier tells the class that was asked for, and a sheet.

    Only where the model's file asks for samples, a whole denoiser is measured, and both arms are there. Where the
    baseline is quantized too, the unquantized model that pictures are held against is gone: no PSNR, no sheet.

    Raises:
        RunEndedError: `bad_numerics`, some pictures hold NaN or infinity.
    """
    pipeline, arms = run.cfg.model.pipeline, given.arms
    if not pipeline.samples or run.cfg.target not in (DENOISER, PIPELINE) or not arms.together:
        return
    with run.phase("draw samples"):
        baseline, drawn_treated = (drawn(arm.workload.denoiser(), run) for arm in (arms.baseline, treated))
        if run.cfg.target != PIPELINE and given.reference is None:  # a pipeline's own are told of otherwise
            run.record.metrics |= psnr(baseline, drawn_treated)
            keep_pictures(baseline, drawn_treated, run.folder)
        if pipeline.classifier.factory:
            run.record.metrics |= _accuracy([baseline, drawn_treated], run)


@torch.no_grad()
def drawn(denoiser: nn.Module, run: RunContext) -> torch.Tensor:
    """Pictures [model.pipeline.samples, channels, height, width] in [0, 1] on the host, drawn eagerly.

    The same labels and noise whatever the denoiser.

    Args:
        denoiser: on the run's device; maybe one that was compiled or packaged.
    """
    pipeline = run.cfg.model.pipeline
    module = assemble(replace(run.cfg, batch=pipeline.samples), {pipeline.denoiser: denoiser})
    with torch.compiler.set_stance("force_eager"), without_packages(denoiser):
        images = module(**_prompts(run), num_inference_steps=pipeline.steps, guidance_scale=pipeline.guidance)
    assert isinstance(images, torch.Tensor)
    return images.cpu()


def _prompts(run: RunContext) -> dict[str, torch.Tensor]:
    cfg = run.cfg
    axes = {"batch": cfg.model.pipeline.samples, "resolution": cfg.resolution}
    dims = resolve(cfg.model.dims, axes, "model.dims")
    dtype = getattr(torch, cfg.dtype)
    return make_inputs(cfg.model.pipeline, dims, run.device.torch, dtype, cfg.seed + 1, _WHERE)


@torch.no_grad()
def _accuracy(pictures: list[torch.Tensor], run: RunContext) -> dict[str, float]:
    """The share of pictures whose class the classifier tells as it was asked for, of both arms."""
    conf, host = run.cfg.model.pipeline.classifier, torch.device("cpu")
    classifier = build_model(conf, host, torch.float32, run.cfg.seed, f"{_WHERE}.classifier")
    labels = _prompts(run)[_LABELS].cpu()
    shares = [(classifier(each * 2 - 1).argmax(1) == labels).double().mean().item() for each in pictures]
    return {"quality/baseline_accuracy": shares[0], "quality/accuracy": shares[1]}
