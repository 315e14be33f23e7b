"""The pictures that runs left, together on one sheet: a row per treatment, beside it what it changed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from src.records.record import RECORD_NAME, Record, RecordError, read_record

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    BaseFont = FreeTypeFont | ImageFont
    _Row = tuple[str, str, Image, Image | None]  # label, what is said of it, pictures, difference

PICTURES_NAME = (
    "pictures.png"  # in a run's folder: a row without the quantization, one with it, their difference
)
SHEET_NAME = "pictures.png"  # in a sweep's folder
_ROWS = 3
_ROUNDED = 8.0  # of 255: as far apart the unquantized pictures of two runs may be, on average
_LABEL_PX, _LINE_PX, _GAP_PX, _HEAD_PX = 300, 15, 8, 22
_MOST_STRIP_PX = 720  # wider strips are made smaller
_FONT_PX = 12
_MOST_PROMPT = 60  # characters of a prompt
_BACKGROUND, _INK, _FAINT = "white", "black", "dimgrey"
_BESIDE = "difference from unquantized, four times as bright:"
_SAYS = {  # metric -> how it is said
    "quality/sqnr_db": "SQNR {:.1f} dB",
    "quality/psnr_db": "PSNR {:.1f} dB",
    "quality/accuracy": "{:.0%} recognised",
    "quality/lpips": "LPIPS {:.3f}",
}


T = TypeVar("T")


class Strips(NamedTuple):
    """A run's pictures, each as a row side by side."""

    baseline: "Image"
    treated: "Image"
    difference: "Image"


class _Drawn(NamedTuple):
    record: Record
    strips: Strips


def strips(folder: Path) -> Strips | None:
    """The pictures of a run's folder; None where there are none, or none that can be read."""
    from PIL import Image

    try:
        with Image.open(folder / PICTURES_NAME) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError):  # PIL's own: broken PNG file
        return None
    height = image.height // _ROWS
    return Strips(*(image.crop((0, n * height, image.width, (n + 1) * height)) for n in range(_ROWS)))


def broken(folders: Iterable[Path]) -> list[Path]:
    """The pictures of runs that are there and cannot be read."""
    return [
        folder / PICTURES_NAME
        for folder in folders
        if (folder / PICTURES_NAME).is_file() and strips(folder) is None
    ]


def quality_words(record: Record) -> str:
    """``SQNR 38.7 dB, PSNR 31.2 dB, 98% recognised``: what is known of a run's quality; empty where nothing is."""
    m = record.metrics
    said = [how.format(m[name]) for name, how in _SAYS.items() if name in m]
    equal = ["equal to the last bit"] if m.get("quality/max_abs_error") == 0 else []
    return ", ".join([*equal, *said])


def write_sheet(folders: Iterable[Path], path: Path) -> bool:
    """Write one sheet of all pictures that runs left; whether there were any.

    Raises:
        OSError: it cannot be written.
    """
    found = [(_workload(drawn.record), drawn.strips, drawn) for drawn in _drawn(folders)]
    parts = [_of_workload(name, runs) for name, runs in below_one(found)]
    if parts:
        _below_each_other(parts).save(path, format="PNG")
    return bool(parts)


def below_one(drawn: Iterable[tuple[str, Strips, T]]) -> list[tuple[str, list[T]]]:
    """By workload what can stand below the same unquantized pictures: other noise or other steps draw others.

    Args:
        drawn: of each run the workload's name, its pictures, and what is wanted of it.
    """
    found: list[tuple[str, Image, list[T]]] = []
    for name, strip, wanted in drawn:
        same = (each for own, first, each in found if own == name and _alike(first, strip.baseline))
        if (there := next(same, None)) is not None:
            there.append(wanted)
        else:
            found.append((name, strip.baseline, [wanted]))
    return [(name, each) for name, _, each in found]


def _alike(one: "Image", other: "Image") -> bool:
    """Whether two strips show the same, whatever a compiler's rounding made of it."""
    from PIL import ImageChops, ImageStat

    return one.size == other.size and max(ImageStat.Stat(ImageChops.difference(one, other)).mean) < _ROUNDED


def _drawn(folders: Iterable[Path]) -> Iterator[_Drawn]:
    for folder in folders:
        found = strips(folder) if (folder / PICTURES_NAME).is_file() else None
        if found is None or not (folder / RECORD_NAME).is_file():
            continue
        try:
            yield _Drawn(read_record(folder / RECORD_NAME), found)
        except RecordError:
            continue


def _workload(record: Record) -> str:
    """What was drawn with, whatever quantized or compiled it; below it the prompts, where they are real."""
    axes = record.axes
    size = [f"{axes['resolution']} px"] if axes.get("resolution") else []
    said = [str(axes.get("model", "")), *size, f"batch {axes.get('batch', '?')}", str(axes.get("dtype", ""))]
    said += [str(axes["target"])] if axes.get("target", "denoiser") != "denoiser" else []
    said += [f"on {record.device['name']}"] if record.device.get("name") else []
    weights = record.details.get("weights")
    prompts = [shorten(text, _MOST_PROMPT) for text in record.details.get("prompts", ())]
    below = [f"prompts: {' | '.join(prompts)}"] if prompts else []
    return "\n".join([", ".join([*filter(None, said), *([str(weights)] if weights else [])]), *below])


def _of_workload(name: str, runs: list[_Drawn]) -> "Image":
    """One workload's rows: first the unquantized pictures, then each treatment's and what it changed."""
    from PIL import Image, ImageDraw

    width, height = _fitting(runs[0].strips.baseline)
    row_px = max(height, 2 * _LINE_PX) + _GAP_PX
    head_px = _HEAD_PX + _LINE_PX * name.count("\n")
    font, beside_px = _font(), _LABEL_PX + width + _GAP_PX
    lines = [*((0, line) for line in name.split("\n")), (beside_px, _BESIDE)]  # none of them is cut off
    needed_px = max(left + round(font.getlength(text)) + 2 * _GAP_PX for left, text in lines)
    size = (max(needed_px, beside_px + width + _GAP_PX), head_px + row_px * (len(runs) + 1))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, _GAP_PX // 2), name, fill=_INK, font=font)
    accuracy = runs[0].record.metrics.get("quality/baseline_accuracy")
    told = "" if accuracy is None else f"{accuracy:.0%} recognised"
    rows: list[tuple[str, str, Image.Image, Image.Image | None]] = [
        ("unquantized", told, runs[0].strips.baseline, None)
    ]
    for record, strip in runs:
        label = f"{record.axes.get('quant', '?')} · {record.axes.get('compile', '?')}"
        rows.append((label, quality_words(record), strip.treated, strip.difference))
    for number, (label, words, picture, difference) in enumerate(rows):
        top = head_px + number * row_px
        draw.text((_GAP_PX, top), label, fill=_INK, font=font)
        draw.text((_GAP_PX, top + _LINE_PX), words, fill=_FAINT, font=font)
        sheet.paste(picture.resize((width, height)), (_LABEL_PX, top))
        if difference is not None:
            sheet.paste(difference.resize((width, height)), (beside_px, top))
    draw.text((beside_px, head_px), _BESIDE, fill=_FAINT, font=font)
    return sheet


def _fitting(strip: "Image") -> tuple[int, int]:
    scale = min(1.0, _MOST_STRIP_PX / strip.width)
    return round(strip.width * scale), round(strip.height * scale)


def _font() -> "BaseFont":
    from PIL import ImageFont

    return ImageFont.load_default(_FONT_PX)


def _below_each_other(parts: list["Image"]) -> "Image":
    from PIL import Image

    whole = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), _BACKGROUND)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole
