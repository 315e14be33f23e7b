"""A made-up device whose costs are known, and cells of it."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.forecasts.costs import Costs
from src.forecasts.evidence.cells import COLUMNS, cells

DEVICE = "Made-up 5000"
BASE = Costs(floor_us=4, weight_us=0.7, multiply_us=2.8, in_flight=0.6, input_us=0.2, output_us=0.3)
TREATED = {
    "float8dq": Costs(
        floor_us=6, weight_us=0.35, multiply_us=1.5, in_flight=0.6, input_us=1.5, output_us=0.3
    ),
    "float8wo": Costs(floor_us=7, weight_us=1.9, multiply_us=2.8, in_flight=0.6, input_us=0.2, output_us=0.3),
}
MS = (1, 32, 256, 1024, 4096, 16384)
SIDES = ((1152, 1152), (1152, 4608), (2048, 2048), (3072, 3072), (3072, 12288), (12288, 3072), (5120, 13824))


def speedup(m: float, k: float, n: float, quant: str) -> float:
    shape = np.array([[m, k, n]], dtype=float)
    return float(BASE.time_us(shape)[0] / TREATED[quant].time_us(shape)[0])


def made_cells(
    source: str = "",
    noise: float = 0.01,
    device: str = DEVICE,
    timed: bool = True,
    sides: Sequence[tuple[int, int]] = SIDES,
) -> pd.DataFrame:
    """A cell of each scheme at each shape, with noise that does not depend on the order."""
    rows = []
    for (k, n), m, quant in itertools.product(sides, MS, TREATED):
        shape = np.array([[m, k, n]], dtype=float)
        wobble = math.exp(noise * math.sin(m * 7 + k * 3 + n))
        base_ms = float(BASE.time_us(shape)[0]) / 1e3
        treated_ms = float(TREATED[quant].time_us(shape)[0]) / 1e3 * wobble
        ratio = base_ms / treated_ms
        times = (base_ms, treated_ms) if timed else (math.nan, math.nan)
        place = (device, "default", "bfloat16")
        rows.append((*place, m, k, n, quant, ratio, ratio * 0.99, ratio * 1.01, math.nan, *times, source))
    return cells(dict(zip(COLUMNS, row, strict=True)) for row in rows)
