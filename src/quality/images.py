"""How far a pipeline's images or videos are from the baseline's: PSNR, and LPIPS by a library that is optional."""

from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlparse

import torch

from src.outcomes import RunEndedError
from src.quality.sqnr import check_baseline
from src.records.record import Outcome

_INSTALL = 'pip install -e ".[images]"'
_FETCH = "python -c \"from torchvision.models import alexnet; alexnet(weights='DEFAULT')\""


def compare_images(baseline: torch.Tensor, treated: torch.Tensor) -> tuple[dict[str, float], str]:
    """PSNR and LPIPS of images [batch, 3, height, width] or videos [batch, frames, 3, height, width] in [0, 1].

    They are on the CPU. A video's LPIPS is the mean over its frames.

    Returns:
        The metrics, and how LPIPS was measured or why it was not.
    """
    distances, how = lpips(*(each.flatten(0, -4) for each in (baseline, treated)))
    return psnr(baseline, treated) | distances, how


def psnr(baseline: torch.Tensor, treated: torch.Tensor) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB per image or video, its mean and its worst; the peak is 1.

    One equal to the last bit has no finite PSNR and does not count; without any other there is no metric.

    Raises:
        RunEndedError: `bad_numerics`, some hold NaN or infinity.
    """
    check_baseline(baseline)
    if lost := sum(not bool(each.isfinite().all()) for each in treated):
        raise RunEndedError(
            Outcome.BAD_NUMERICS, f"{lost} of the {len(treated)} treated pictures hold NaN or infinity"
        )
    errors = (baseline.double() - treated.double()).square().flatten(1).mean(1)
    found_db = -10 * errors[errors > 0].log10()
    if not len(found_db):
        return {}
    return {"quality/psnr_db": float(found_db.mean()), "quality/psnr_worst_db": float(found_db.min())}


@torch.no_grad()
def lpips(baseline: torch.Tensor, treated: torch.Tensor) -> tuple[dict[str, float], str]:
    """LPIPS with AlexNet, mean over the images (https://arxiv.org/abs/1801.03924), by torchmetrics.

    Nothing is downloaded: a run does not wait for a network. Whatever is missing or breaks is the reason why the
    metric is left out.
    """
    try:
        distance = _distance(baseline.float(), treated.float())
    except ImportError as error:
        return {}, f"not measured: {_first_line(error)}; {_INSTALL}"
    except Exception as error:
        # no weights, a broken file, images too small for AlexNet, a torchvision made for another torch
        return {}, f"not measured: {_first_line(error)}"
    return {"quality/lpips": distance}, f"AlexNet, torchmetrics {version('torchmetrics')}"


def _distance(baseline: torch.Tensor, treated: torch.Tensor) -> float:
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchvision.models import AlexNet_Weights

    name = Path(urlparse(AlexNet_Weights.DEFAULT.url).path).name
    weights = Path(torch.hub.get_dir(), "checkpoints", name)  # where torchvision looks before it downloads
    if not weights.is_file():
        raise FileNotFoundError(f"no AlexNet weights at {weights}; where there is a network, once: {_FETCH}")
    found = learned_perceptual_image_patch_similarity(
        baseline, treated, net_type="alex", reduction="mean", normalize=True
    )
    if not found.isfinite():
        raise ValueError(f"LPIPS is {found.item()}")
    return float(found)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]
