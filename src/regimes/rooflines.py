"""Rooflines: how near measured Linear layers come to what their device copies and multiplies at most."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from src.analysis.runs.frame import compared, layer_level
from src.forecasts.evidence.kernels import like, multiplies_in

BASELINE = "none"
_CEILING = re.compile(r"ceiling/(\w+)_t(?:fl)?op_s")
_COPY = "ceiling/copy_gb_s"
_BYTES = {"float32": 4}  # of an element; of all other dtypes 2
_GIB = 2**30
_TAKEN = ["M", "K", "N", "dtype", "baseline_dtype", "quant", "variant", "memory/model_gib"]
_TAKEN += ["latency/baseline_median_ms", "latency/median_ms"]
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
    """Of each place whose ceilings some run measured and that has single layers with a speedup; standing runs."""
    layers = compared(layer_level(runs))
    layers = layers[~layers["withheld"]].assign(compile=layers["compile"].map(like))
    for (device, mode, dtype), rows in layers.groupby(["device", "compile", "dtype"]):
        ceilings = _ceilings(runs[runs["device"] == device])
        gb_s = ceilings.pop("copy", np.nan)
        points = _points(rows, gb_s, ceilings)
        known = {name: ceilings[name] for name in dict.fromkeys(points["multiplies"]) if name in ceilings}
        if np.isfinite(gb_s) and str(dtype) in known:
            yield Roofline(str(device), str(mode), str(dtype), gb_s, known, points)


def _ceilings(runs: pd.DataFrame) -> dict[str, float]:
    """The newest of each: TFLOP/s by dtype, and GB/s under `copy`."""
    found, ordered = {}, runs.sort_values("started_at")
    for column in ordered.columns:
        named = _CEILING.fullmatch(column)
        if (named or column == _COPY) and len(values := ordered[column].dropna()):
            found[named[1] if named else "copy"] = float(values.iloc[-1])
    return found


def _points(rows: pd.DataFrame, gb_s: float, ceilings: Mapping[str, float]) -> pd.DataFrame:
    """Both arms of each run; of an unquantized layer, which many runs measured, the median."""
    arms = [arm for row in rows[_TAKEN].to_dict("records") for arm in _arms(row)]
    frame = pd.DataFrame(arms, columns=["quant", "M", "K", "N", "multiplies", "bytes", "ms"])
    by = ["quant", "M", "K", "N", "multiplies"]
    frame = frame.astype({"bytes": float, "ms": float}).groupby(by, sort=False).median().reset_index()
    flop = 2.0 * frame["M"] * frame["K"] * frame["N"]
    intensity = flop / frame["bytes"]
    slope, ceiling = intensity * gb_s / 1e3, frame["multiplies"].map(ceilings).astype(float)
    roof = slope.clip(upper=ceiling).where(ceiling.notna())
    return frame.assign(
        intensity=intensity, tflop_s=flop / frame["ms"] / 1e9, roof_tflop_s=roof, slope=slope < ceiling
    )[_COLUMNS]


def _arms(row: Mapping[Any, Any]) -> Iterator[dict[str, object]]:
    """Unquantized and quantized: bytes of the weights as stored, and of x and y in the arm's dtype."""
    shape = {name: int(row[name]) for name in "MKN"}
    m, k, n = shape.values()
    own, base = str(row["dtype"]), str(row["baseline_dtype"] or row["dtype"])
    moved = _BYTES.get(base, 2) * (k * n + m * k + m * n)
    yield shape | {
        "quant": BASELINE,
        "multiplies": base,
        "bytes": moved,
        "ms": row["latency/baseline_median_ms"],
    }
    stored = row["memory/model_gib"] * _GIB
    if row["quant"] != BASELINE and np.isfinite(stored):
        variant = f" ({row['variant']})" if row["variant"] else ""
        yield shape | {
            "quant": f"{row['quant']}{variant}",
            "multiplies": multiplies_in(str(row["quant"]), own),
            "bytes": stored + _BYTES.get(own, 2) * (m * k + m * n),
            "ms": row["latency/median_ms"],
        }
