"""What runs drew, with and without their quantization: a table of strips per workload."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.analysis.runs.frame import WORKLOAD, Row, model_level
from src.analysis.verdicts import decibels, percent, treatment_text, workload_text
from src.config.schema.model import RANDOM_WEIGHTS
from src.records.pictures import PICTURES_NAME, Strips, below_one, strips
from src.records.store import left_file, run_folder
from src.report.graphics.markup import Cell, number_cell, table, text_cell
from src.report.runs.filters import Filters
from src.report.runs.sections import section

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_ROWS = 60  # of all tables together: every one of them is part of the page
_MOST_PX = 560  # of a strip's width


def pictures_section(runs: pd.DataFrame, filters: Filters, outputs: Path) -> str:
    """The pictures of each workload's runs below each other; empty where no run left any on this disk."""
    models = model_level(runs)
    drawn = [(models.iloc[place], found) for place, found in _found(models, outputs)]
    left = len(drawn) - _MOST_ROWS
    tables = below_one((_workload(row), found, (row, found)) for row, found in drawn[:_MOST_ROWS])
    if not tables:
        return ""
    body = "".join(f"<h3>{escape(name)}</h3>{_table(rows, filters)}" for name, rows in tables)
    note = (
        "What each treatment draws from the same prompts and the same noise, below what the model draws unquantized; "
        "beside it the difference, four times as bright."
    )
    note += f" {left:,} more are in their runs' folders ({PICTURES_NAME})." if left > 0 else ""
    return section("Pictures", note, body)


def _found(models: pd.DataFrame, outputs: Path) -> Iterator[tuple[int, Strips]]:
    """The places of runs with pictures, and these."""
    each = zip(models["run_key"].tolist(), models["attempt"].tolist(), strict=True)
    for place, (run_key, attempt) in enumerate(each):
        if not left_file(outputs, run_key, attempt, PICTURES_NAME):
            continue
        if found := strips(run_folder(outputs, run_key, attempt)):
            yield place, found


def _workload(row: Row) -> str:
    said = [workload_text(row), *(str(row[name]) for name in WORKLOAD if name == "dtype"), str(row["device"])]
    return ", ".join([*filter(None, said), *([RANDOM_WEIGHTS] if row["weights"] == "random" else [])])


def _table(rows: list[tuple[Row, Strips]], filters: Filters) -> str:
    heads = ["Treatment", "SQNR, dB", "PSNR, dB", "Recognised", "Pictures", "Difference"]
    first, strip = rows[0]
    recognised = first.get("quality/baseline_accuracy")
    cells = [[text_cell("unquantized"), *_numbers(None, None, recognised), _image(strip.baseline), Cell("")]]
    attributes = [filters.attribute(first, "model", "device", "dtype", "batch")]
    for row, found in rows:
        numbers = _numbers(row["quality/sqnr_db"], row["quality/psnr_db"], row.get("quality/accuracy"))
        images = [_image(found.treated), _image(found.difference)]
        cells.append([text_cell(treatment_text(row)), *numbers, *images])
        attributes.append(filters.attribute(row))
    return table(heads, cells, attributes)


def _numbers(sqnr_db: object, psnr_db: object, accuracy: object) -> list[Cell]:
    return [
        number_cell(decibels(sqnr_db), sqnr_db),
        number_cell(decibels(psnr_db), psnr_db),
        number_cell(percent(accuracy), accuracy),
    ]


def _image(image: "Image") -> Cell:
    """A strip within the page: the report is one file."""
    if image.width > _MOST_PX:
        image = image.resize((_MOST_PX, round(image.height * _MOST_PX / image.width)))
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    data = b64encode(buffer.getvalue()).decode("ascii")
    return Cell(
        f'<img class="strip" alt="pictures" width="{image.width}" src="data:image/png;base64,{data}">'
    )
