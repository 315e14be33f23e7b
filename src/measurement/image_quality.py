"""How far a pipeline's images are from the baseline's: PSNR, and LPIPS by a library that is optional."""

from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlparse

import torch

_INSTALL = 'pip install -e ".[images]"'
_FETCH = "python -c \"from torchvision.models import alexnet; alexnet(weights='DEFAULT')\""


def compare_images(baseline: torch.Tensor, treated: torch.Tensor) -> tuple[dict[str, float], str]:
    """PSNR and LPIPS of images [batch, 3, height, width] in [0, 1], on the CPU.

    Returns:
        The metrics, and how LPIPS was measured or why it was not.
    """
    distances, how = lpips(baseline, treated)
    return psnr(baseline, treated) | distances, how


def psnr(baseline: torch.Tensor, treated: torch.Tensor) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB per image, its mean and its worst; the peak is 1.

    An image equal to the last bit has no finite PSNR and does not count; without any other there is no metric.
    """
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
        from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
        from torchvision.models import AlexNet_Weights

        missing = _weights_file(AlexNet_Weights.DEFAULT.url)
        if missing is not None:
            return (
                {},
                f"not measured: no AlexNet weights at {missing}; where there is a network, once: {_FETCH}",
            )
        distance = learned_perceptual_image_patch_similarity(
            baseline.float(), treated.float(), net_type="alex", reduction="mean", normalize=True
        )
    except ImportError as error:
        return {}, f"not measured: {_first_line(error)}; {_INSTALL}"
    except (
        Exception
    ) as error:  # a torchvision for another torch, a broken file, an image too small for AlexNet
        return {}, f"not measured: {_first_line(error)}"
    return {"quality/lpips": float(distance)}, f"AlexNet, torchmetrics {version('torchmetrics')}"


def _weights_file(url: str) -> Path | None:
    """Where torch hub looks for a file (TORCH_HOME), if it isn't there."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    return None if path.is_file() else path


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
