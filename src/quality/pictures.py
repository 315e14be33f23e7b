"""Pictures on disk: a sheet of many as one PNG, and what a run drew with and without its quantization."""

from pathlib import Path

import torch
from torch.nn import functional

from src.quality.media import write_png
from src.records.pictures import PICTURES_NAME

COLUMNS = 10  # of a sheet
_BRIGHTER = 4  # a difference is shown so many times as bright
_LEAST_PX = 32  # side of a picture on a sheet: smaller ones are enlarged by whole pixels
_MOST_PX = 256  # larger ones are made smaller
_GAP_PX = 2  # around each, black
_IMAGES = 4  # dimensions of a batch; of videos there are 5


def keep_pictures(baseline: torch.Tensor, treated: torch.Tensor, folder: Path) -> None:
    """Write the first pictures of both arms and what they differ by, a row each, into a run's folder.

    Args:
        baseline: images [n, 1 or 3, height, width] or videos [n, frames, 3, height, width] in [0, 1]; of a video its
            first frame, the one in the middle and the last.
    """
    rows = [_stills(each)[:COLUMNS].detach().float().cpu() for each in (baseline, treated)]
    count = len(rows[0])
    rows.append((rows[0] - rows[1]).abs() * _BRIGHTER)
    write_png(sheet(torch.cat(rows), count), folder / PICTURES_NAME)


def sheet(images: torch.Tensor, columns: int = COLUMNS) -> torch.Tensor:
    """Pictures side by side, row after row: [channels, height, width] in [0, 1], grey or RGB.

    Args:
        images: [n, 1 or 3, height, width] in [0, 1]; what fills no whole row is left out, unless it is the only one.
        columns: pictures of a row.
    """
    images = functional.pad(_sized(images.detach().float().cpu()), (_GAP_PX,) * 4)
    columns = min(columns, len(images))
    rows = len(images) // columns
    count, channels, height, width = images[: rows * columns].shape
    grid = images[:count].reshape(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * height, columns * width)


def _stills(output: torch.Tensor) -> torch.Tensor:
    """Images as they are; of each video the frames that are shown of it, one video after another."""
    if output.dim() == _IMAGES:
        return output
    last = output.shape[1] - 1
    return output[:, sorted({0, last // 2, last})].flatten(0, 1)


def _sized(images: torch.Tensor) -> torch.Tensor:
    """Small pictures enlarged by whole pixels, large ones made smaller: neither blurs what the model drew."""
    side = max(images.shape[-2:])
    if side < _LEAST_PX:
        times = -(-_LEAST_PX // side)
        return images.repeat_interleave(times, -1).repeat_interleave(times, -2)
    return (
        functional.interpolate(images, scale_factor=_MOST_PX / side, mode="area")
        if side > _MOST_PX
        else images
    )
