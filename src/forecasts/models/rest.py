"""What of a model's call is not Linear: from a profile of it, from its measured time, or from what it computes."""

import math
from dataclasses import dataclass, field

import pandas as pd

from src.analysis.runs.frame import model_level
from src.config.schema.root import RootConf, sizes
from src.devices.device import GIB
from src.forecasts.evidence.kernels import like
from src.forecasts.forecast import Place

_PROFILED, _SUBTRACTED = 0.05, 0.05  # standard deviation of the logarithm of a time
_TWICE = (
    2.0  # at the ceilings nothing is faster; and real kernels are taken to need no more than twice as long
)
_CEILINGS = math.log(_TWICE) / 2 / 1.645
_WEIGHTS = "memory/baseline_model_gib"
_AS_LARGE = 0.01
_TOTAL = "profile/baseline_total_ms"
_KINDS = ("attention", "quantize", "quantize_fused", "other")


@dataclass(frozen=True)
class Work:
    """What a call does beside its Linear layers, and what the device reaches."""

    flop: float
    moved_bytes: float
    tflop_s: float
    gb_s: float


@dataclass(frozen=True)
class Rest:
    """Milliseconds of an unquantized call that are not Linear.

    ``whole_ms`` is the measured call, nan where none was measured; ``linear_ms`` is what a profile says of the
    Linear layers, nan without one.
    """

    ms: float
    spread: float  # standard deviation of its logarithm
    source: str  # in words
    whole_ms: float = math.nan
    linear_ms: float = math.nan
    parts_ms: dict[str, float] = field(default_factory=dict)


def runs_of(runs: pd.DataFrame, cfg: RootConf, place: Place, weights_bytes: float) -> pd.DataFrame:
    """The calls of a workload in a place, in a compile mode like the one asked for: any treatment; no training.

    Args:
        runs: standing.
        cfg: the workload.
        place: where it runs.
        weights_bytes: of its weights, unquantized: a model of its name with other options (fewer blocks) has others.
    """
    alike = {"model": cfg.model.name, "target": cfg.target, **sizes(cfg), "dtype": place.dtype,
             "device": place.device}  # fmt: skip
    rows = model_level(runs)
    rows = rows[rows["latency/baseline_median_ms"].notna() & ~rows["withheld"]]
    for name, value in alike.items():
        rows = rows[rows[name] == value]
    if _WEIGHTS in rows:
        rows = rows[rows[_WEIGHTS].isna() | ((rows[_WEIGHTS] * GIB / weights_bytes - 1).abs() < _AS_LARGE)]
    return rows[rows["compile"].map(like) == like(place.compile)]


def measured_rest(rows: pd.DataFrame, layers_ms: float) -> Rest | None:
    """The rest by runs of the model, the newest last: by a profile if one has it, else their time less the layers'.

    Args:
        rows: as `runs_of` gives them.
        layers_ms: what the Linear layers of one call are predicted to take.
    """
    if rows.empty:
        return None
    whole_ms = float(rows["latency/baseline_median_ms"].median())
    profiled = rows[rows[_TOTAL].notna()] if _TOTAL in rows else rows.iloc[:0]
    if len(profiled):
        row = profiled.iloc[-1]
        call_ms = row[_TOTAL] / (1 - row["profile/baseline_idle_share"])
        parts = {kind: whole_ms * row[f"profile/baseline_{kind}_ms"] / call_ms for kind in _KINDS}
        parts["idle"] = whole_ms * row["profile/baseline_idle_share"]
        linear_ms = whole_ms * row["profile/baseline_matmul_ms"] / call_ms
        source = f"from a profile of {whole_ms:.4g} ms"
        return Rest(whole_ms - linear_ms, _PROFILED, source, whole_ms, linear_ms, parts)
    times = f"{len(rows)} measured run{'s' * (len(rows) > 1)}"
    source = f"{whole_ms:.4g} ms by {times} less {layers_ms:.4g} ms predicted of its Linear layers"
    return Rest(max(0.0, whole_ms - layers_ms), _SUBTRACTED, source, whole_ms)


def computed_rest(work: Work) -> Rest:
    """The rest at the device's ceilings and up to twice as long: nothing was measured of this model."""
    products_ms, moved_ms = work.flop / work.tflop_s / 1e9, work.moved_bytes / work.gb_s / 1e6
    least_ms = products_ms + moved_ms
    source = (
        f"from its work: {work.flop / 1e12:.3g} TFLOP at {work.tflop_s:.3g} TFLOP/s and {work.moved_bytes / 1e9:.3g} "
        f"GB at {work.gb_s:,.0f} GB/s take {least_ms:.4g} ms at least; taken to need up to {_TWICE:g} times that"
    )
    return Rest(least_ms * math.sqrt(_TWICE), _CEILINGS, source)
