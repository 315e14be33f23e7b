"""What both arms of a pipeline generated: how far it is apart, and the images or videos themselves."""

import torch

from src.config.schema.model import PIPELINE
from src.context import RunContext
from src.quality.images import compare_images
from src.quality.media import keep_samples
from src.quality.pictures import keep_pictures
from src.tasks.arms.arm import Arm


def compare_generated(baseline: Arm, treated: Arm, reference: torch.Tensor | None, run: RunContext) -> None:
    """PSNR and LPIPS, and a few samples of both arms in the run's folder; nothing for other targets.

    Samples that cannot be written are a warning: the measured numbers stand.

    Args:
        reference: where the baseline is quantized, what the unquantized model generated: each arm is held against it.
    """
    record, cfg = run.record, run.cfg
    if cfg.target != PIPELINE:
        return
    against = baseline.output if reference is None else reference
    with run.phase("compare images"):
        images, record.details["lpips"] = compare_images(against, treated.output)
        record.metrics |= images
        if reference is not None:
            own, _ = compare_images(reference, baseline.output)
            record.metrics |= of_the_baseline(own)
        if not cfg.measure.components:
            return
        try:
            keep_pictures(against, treated.output, run.folder)
            for arm in (baseline, treated):
                keep_samples(arm.name, arm.output, run.folder, cfg.model.pipeline.frames_per_s)
        except (OSError, ImportError) as error:
            record.details.setdefault("warnings", []).append(f"no samples in the run's folder: {error}")


def of_the_baseline(metrics: dict[str, float]) -> dict[str, float]:
    """The same, by the names that they have of the baseline: ``quality/baseline_sqnr_db``."""
    return {name.replace("/", "/baseline_"): value for name, value in metrics.items()}
