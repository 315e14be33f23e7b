"""What pipelines generate, on disk: images as PNG, videos as MP4."""

from fractions import Fraction
from pathlib import Path

import torch

MOST = 4  # images or videos of an arm that are kept
_QUALITY = "16"  # x264's constant rate factor: nothing is seen of it


def keep_samples(name: str, output: torch.Tensor, folder: Path, frames_per_s: int) -> list[Path]:
    """Write the first samples of an arm as sample_NAME_1.png or sample_NAME_1.mp4 and so on.

    Args:
        output: images [n, 3, height, width] or videos [n, frames, 3, height, width] in [0, 1].
        frames_per_s: at which a video is shown.

    Raises:
        OSError: one cannot be written.
    """
    written = []
    for number, sample in enumerate(output[:MOST], 1):
        path = folder / f"sample_{name}_{number}.{'png' if sample.dim() == 3 else 'mp4'}"
        if sample.dim() == 3:
            write_png(sample, path)
        else:
            write_mp4(sample, path, frames_per_s)
        written.append(path)
    return written


def write_png(image: torch.Tensor, path: Path) -> None:
    """Write an image [1 or 3, height, width] in [0, 1].

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image  # diffusers brings it along; importing it takes a while

    values = _bytes(image)
    array = values[0] if len(values) == 1 else values.permute(1, 2, 0)
    Image.fromarray(array.contiguous().numpy()).save(path, format="PNG")


def write_mp4(video: torch.Tensor, path: Path, frames_per_s: int) -> None:
    """Write a video [frames, 3, height, width] in [0, 1], as H.264; an odd side loses its last row or column.

    Raises:
        OSError: it cannot be written.
    """
    import av

    height, width = (side // 2 * 2 for side in video.shape[-2:])  # colours have half the resolution
    frames = _bytes(video)[..., :height, :width].permute(0, 2, 3, 1).contiguous().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_s), options={"crf": _QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return (values.detach().float().cpu().clamp(0, 1) * 255).round().byte()
