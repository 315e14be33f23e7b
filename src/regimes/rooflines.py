"""Rooflines: how near measured Linear layers come to what their device copies and multiplies at most."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.analysis.runs.frame import compared, layer_level
from src.analysis.runs.tracked.variants import WARM
from src.forecasts.evidence.kernels import like
from src.treatments.multiplies import multiplies_in

BASELINE = "none"
_CEILING = re.compile(r"ceiling/(\w+)_t(?:fl)?op_s")
_COPY = "ceiling/copy_gb_s"
_BYTES = {"float32": 4}  # of an element; of all other dtypes 2
_GIB = 2**30
_COLUMNS = ["quant", "M", "K", "N", "intensity", "tflop_s", "multiplies", "roof_tflop_s", "slope"]


@dataclass(frozen=True)
class Roofline:
    """One device, compile mode and dtype.

    `points` has a row per layer and scheme (BASELINE: unquantized): FLOP per byte moved, TFLOP/s reached, what it
    multiplies in, the roof above it in TFLOP/s (nan: that ceiling was not measured), and whether that is the slope.
    """

    device: str
    compile: str
    dtype: str
    gb_s: float
    tflop_s: Mapping[str, float]  # by dtype, of those that some layer here multiplies in
    points: pd.DataFrame

    def ridge(self, multiplies: str) -> float:
        """FLOP per byte from which on multiplying sets the limit, not memory."""
        return self.tflop_s[multiplies] * 1e3 / self.gb_s


def rooflines(runs: pd.DataFrame) -> Iterator[Roofline]:
    """Of each place whose ceilings some run measured and that has single layers with a speedup; standing runs.

    Layers that were measured with warm caches are left out: the roof is what copying from memory allows.
    """
    told = runs[["device", "started_at", *filter(_named, map(str, runs))]].dropna(thresh=3)
    if told.empty:
        return
    layers = compared(layer_level(runs))
    warm = layers["variant"].str.contains(WARM, regex=False)
    layers = layers[~layers["withheld"] & ~warm].assign(compile=layers["compile"].map(like))
    for (device, mode, dtype), rows in layers.groupby(["device", "compile", "dtype"]):
        ceilings = _ceilings(told[told["device"] == device])
        gb_s = ceilings.pop("copy", np.nan)
        if not np.isfinite(gb_s) or str(dtype) not in ceilings:
            continue
        points = _points(rows, gb_s, ceilings)
        known = {name: ceilings[name] for name in dict.fromkeys(points["multiplies"]) if name in ceilings}
        if str(dtype) in known:
            yield Roofline(str(device), str(mode), str(dtype), gb_s, known, points)


def _ceilings(runs: pd.DataFrame) -> dict[str, float]:
    """The newest of each: TFLOP/s by dtype, and GB/s under `copy`."""
    ordered = runs.sort_values("started_at")
    columns = {name: ordered[column].dropna() for column in ordered if (name := _named(str(column)))}
    return {name: float(values.iloc[-1]) for name, values in columns.items() if len(values)}


def _named(column: str) -> str:
    """What a metric is the ceiling of: a dtype, or `copy`; empty: it is another."""
    found = _CEILING.fullmatch(column)
    return "copy" if column == _COPY else found[1] if found else ""


def _points(rows: pd.DataFrame, gb_s: float, ceilings: Mapping[str, float]) -> pd.DataFrame:
    """Both arms of each run; of an unquantized layer, which many runs measured, the median."""
    frame = pd.concat([_unquantized(rows), _quantized(rows)], ignore_index=True)
    by = ["quant", "M", "K", "N", "multiplies"]
    frame = frame.astype({"bytes": float, "ms": float}).groupby(by, sort=False).median().reset_index()
    flop = 2.0 * frame["M"] * frame["K"] * frame["N"]
    intensity = flop / frame["bytes"]
    slope, ceiling = intensity * gb_s / 1e3, frame["multiplies"].map(ceilings).astype(float)
    roof = slope.clip(upper=ceiling).where(ceiling.notna())
    return frame.assign(
        intensity=intensity, tflop_s=flop / frame["ms"] / 1e9, roof_tflop_s=roof, slope=slope < ceiling
    )[_COLUMNS]


def _unquantized(rows: pd.DataFrame) -> pd.DataFrame:
    """That arm of each run, with the bytes of its weights, x and y."""
    base = rows["baseline_dtype"].where(rows["baseline_dtype"] != "", rows["dtype"])
    weights = rows["K"] * rows["N"]
    return pd.DataFrame(
        {"quant": BASELINE, **{name: rows[name].astype(int) for name in "MKN"}, "multiplies": base,
         "bytes": _width(base) * (weights + _activations(rows)), "ms": rows["latency/baseline_median_ms"]}
    )  # fmt: skip


def _quantized(rows: pd.DataFrame) -> pd.DataFrame:
    """The other one, where its weights were weighed: their bytes as stored, those of x and y in the run's dtype."""
    rows = rows[(rows["quant"] != BASELINE) & np.isfinite(rows["memory/model_gib"])]
    variant = (" (" + rows["variant"] + ")").where(rows["variant"] != "", "")
    multiplies = [
        multiplies_in(str(quant), str(own)) for quant, own in zip(rows["quant"], rows["dtype"], strict=True)
    ]
    moved = rows["memory/model_gib"] * _GIB + _width(rows["dtype"]) * _activations(rows)
    return pd.DataFrame(
        {"quant": rows["quant"] + variant, **{name: rows[name].astype(int) for name in "MKN"},
         "multiplies": multiplies, "bytes": moved, "ms": rows["latency/median_ms"]}
    )  # fmt: skip


def _width(dtypes: "pd.Series[str]") -> "pd.Series[int]":
    return dtypes.map(_BYTES).fillna(2).astype(int)


def _activations(rows: pd.DataFrame) -> "pd.Series[int]":
    found: pd.Series[int] = rows["M"] * (rows["K"] + rows["N"])
    return found
