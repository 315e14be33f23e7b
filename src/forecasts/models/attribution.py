"""Why a measured model gained what it gained: measured and predicted side by side, and the gap between them split."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from src.analysis.runs.frame import Row, compared, model_level
from src.analysis.verdicts import treatment_text, workload_text
from src.config.schema.model import PIPELINE
from src.forecasts.forecast import UNKNOWN, Forecast, Forecaster, Place
from src.forecasts.models.layer_times import LayerTimes
from src.forecasts.models.rest import measured_rest
from src.forecasts.models.whole import Layers, Whole, put_together
from src.forecasts.reach import Shape

_WHERE = (
    "layers",
    "where=",
    "via=",
    "components",
    "min_",
    "candidates",
)  # options that make no other kernels
_CLOCKS = ("device/baseline_sm_mhz", "device/sm_mhz")


@dataclass(frozen=True)
class Part:
    """A part of the call, in ms: unquantized, quantized as measured (nan: not told apart), quantized as predicted."""

    name: str
    baseline_ms: float
    treated_ms: float
    predicted_ms: float


@dataclass(frozen=True)
class Attribution:
    """One measured run of a model."""

    workload: str
    treatment: str
    device: str
    measured: tuple[float, float, float]  # speedup, low, high
    baseline_ms: float
    treated_ms: float
    whole: Whole
    told: Forecast
    parts: list[Part]
    profiled: bool
    clock: float  # of the treated arm over the baseline's, where a power limit set both; else nan
    waiting: tuple[
        float, float
    ]  # share of a call in which the device waits for the host, by arm; nan: not known

    @property
    def gap_ms(self) -> float:
        """How much longer the quantized call took than predicted."""
        return self.treated_ms - self.whole.treated_ms

    @property
    def clock_ms(self) -> float:
        """What the arms' clocks make of all that is not Linear, which the forecast takes to be alike in both."""
        return self.whole.rest.ms * (1 / self.clock - 1)


def attributions(
    forecaster: Forecaster, runs: pd.DataFrame, tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Attribution]:
    """Of the measured models whose layers can be predicted on their own device; the newest first.

    Args:
        forecaster: of single layers.
        runs: standing; of a disturbed one nothing is explained.
        tables: run key -> its layers.
    """
    ran = compared(model_level(runs)).sort_values("started_at", ascending=False)
    ran = ran[ran["run_key"].isin(list(tables)) & (ran["target"] != PIPELINE) & ~ran["withheld"]]
    told = (_attributed(forecaster, runs, row, tables[str(row["run_key"])]) for _, row in ran.iterrows())
    return [each for each in told if each is not None]


def _attributed(
    forecaster: Forecaster, runs: pd.DataFrame, row: Row, table: Sequence[Mapping[str, Any]]
) -> Attribution | None:
    place = Place(str(row["device"]), str(row["compile"]), str(row["dtype"]))
    fitted = forecaster.family(place.query((1, 1, 1), ""))
    quantized = any(layer["scheme"] for layer in table)
    if fitted is None or not quantized or not fitted.arms.timed(place.device):
        return None
    layers = LayerTimes(forecaster, place, runs).layers(_chosen(row, table))
    rest = measured_rest(pd.DataFrame([row]), sum(each.baseline_ms for each in layers))
    assert rest is not None
    whole = put_together(layers, rest)
    unknown = Forecast(UNKNOWN, reason=whole.withheld)
    told = unknown if whole.withheld else forecaster.told(math.log(whole.speedup), whole.spread(), 0, "")
    clock = _clock(row)
    if math.isfinite(clock):  # earlier records say it there too, of times by two clocks
        waits = [math.nan, math.nan]
    else:
        waits = [float(row.get(f"latency/{arm}waiting_share", np.nan)) for arm in ("baseline_", "")]
    found = Attribution(
        workload=workload_text(row),
        treatment=treatment_text(row),
        device=place.device,
        measured=(row["speedup/ratio"], row["speedup/ci_low"], row["speedup/ci_high"]),
        baseline_ms=row["latency/baseline_median_ms"],
        treated_ms=row["latency/median_ms"],
        whole=whole,
        told=told,
        parts=[],
        profiled=math.isfinite(rest.linear_ms),
        clock=clock,
        waiting=(waits[0], waits[1]),
    )
    return replace(found, parts=list(_profiled(row, found) if found.profiled else _subtracted(found)))


def _chosen(row: Row, table: Sequence[Mapping[str, Any]]) -> Counter[tuple[Shape, str, str]]:
    """What each shape was given; a scheme with the options by which the run differs from others."""
    options = [each for each in str(row["variant"]).split(", ") if each and not each.startswith(_WHERE)]
    found: Counter[tuple[Shape, str, str]] = Counter()
    for layer in table:
        scheme = str(layer["scheme"])
        named = f"{scheme} ({', '.join(options)})" if options and scheme == row["quant"] else scheme
        found[(layer["M"], layer["K"], layer["N"]), named, "" if scheme else str(layer["reason"])] += layer[
            "calls"
        ]
    return found


def _subtracted(found: Attribution) -> Iterator[Part]:
    """Without a profile: the layers as predicted; all the rest of the quantized call is what they leave of it."""
    treated = sum(each.treated_ms for each in found.whole.layers)
    baseline = sum(each.baseline_ms for each in found.whole.layers)
    yield Part("Linear layers", baseline, math.nan, treated)
    yield Part("the rest", found.whole.rest.ms, math.nan, found.whole.rest.ms)


def _profiled(row: Row, found: Attribution) -> Iterator[Part]:
    """By the kinds of kernels in the profile of each arm."""
    base, treated = (
        _kinds(row, arm, ms) for arm, ms in (("baseline_", found.baseline_ms), ("", found.treated_ms))
    )
    yield Part(
        "Linear layers, with quantizing",
        base["matmul"] + base["quantize"],
        treated["matmul"] + treated["quantize"],
        sum(each.treated_ms for each in found.whole.layers) + base["quantize"],
    )
    yield Part("- of it quantize, dequantize", base["quantize"], treated["quantize"], math.nan)
    yield Part("attention", base["attention"], treated["attention"], base["attention"])
    others = [each["other"] + each["quantize_fused"] for each in (base, treated)]
    yield Part("other kernels", others[0], others[1], others[0])
    yield Part("- of it fused with quantizing", base["quantize_fused"], treated["quantize_fused"], math.nan)
    left = "no kernel runs" if math.isnan(found.clock) else "no kernel runs, or at a lower clock"
    yield Part(left, base["idle"], treated["idle"], base["idle"])


def _kinds(row: Row, arm: str, call_ms: float) -> dict[str, float]:
    """Milliseconds of each kind in a measured call: kernels as profiled, and what they leave of the call.

    A profiler slows the host and not the kernels: it sees the device idle for longer than it is in a call. At a power
    limit the profiled call, alone, has a higher clock than those that were timed: what is left is of both.
    """
    prefix, kinds = f"profile/{arm}", ("matmul", "attention", "quantize", "quantize_fused", "other")
    busy_ms = float(row[f"{prefix}total_ms"])
    fitting = min(1.0, call_ms / busy_ms)
    found = {kind: fitting * row[f"{prefix}{kind}_ms"] for kind in kinds}
    return found | {"idle": max(0.0, call_ms - busy_ms)}


def _clock(row: Row) -> float:
    """The treated arm's clock over the baseline's, where both stood at the power limit; else nan."""
    base, treated = (float(row.get(name, np.nan)) for name in _CLOCKS)
    capped = row.get("device/power_capped", 0) and row.get("device/baseline_power_capped", 0)
    return treated / base if capped and base > 0 else math.nan


def longest(layers: Sequence[Layers]) -> list[Layers]:
    """The quantized layers, those first that take longest unquantized."""
    return sorted((each for each in layers if each.quant), key=lambda each: -each.baseline_ms)
