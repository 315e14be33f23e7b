"""What both arms of a pipeline generated: how far it is apart, and the images or videos themselves."""

from src.config.schema.model import PIPELINE
from src.context import RunContext
from src.quality.images import compare_images
from src.quality.media import keep_samples
from src.quality.pictures import keep_pictures
from src.tasks.arms.arm import Arm


def compare_generated(baseline: Arm, treated: Arm, run: RunContext) -> None:
    """PSNR and LPIPS, and a few samples of both arms in the run's folder; nothing for other targets.

    Samples that cannot be written are a warning: the measured numbers stand.
    """
    record, cfg = run.record, run.cfg
    if cfg.target != PIPELINE:
        return
    with run.phase("compare images"):
        images, record.details["lpips"] = compare_images(baseline.output, treated.output)
        record.metrics |= images
        if not cfg.measure.components:
            return
        try:
            keep_pictures(baseline.output, treated.output, run.folder)
            for arm in (baseline, treated):
                keep_samples(arm.name, arm.output, run.folder, cfg.model.pipeline.frames_per_s)
        except (OSError, ImportError) as error:
            record.details.setdefault("warnings", []).append(f"no samples in the run's folder: {error}")
