"""The Linear layers of one model on one device with their predicted times, unquantized and quantized."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from src.forecasts.costs import Array
from src.forecasts.evidence.kernels import roofline
from src.forecasts.family import Family
from src.forecasts.forecast import Forecast, Forecaster, Place
from src.forecasts.models.whole import Layers
from src.forecasts.reach import Shape
from src.forecasts.times import BaselineTimes, within_whole

Chosen = Mapping[tuple[Shape, str, str], int]  # shape, scheme, why none -> calls in one call of the model


class LayerTimes:
    """Predicts the layers of models in one place.

    Args:
        forecaster: of single layers.
        place: of whose kind of device some cell has times of its own (`untimed`).
        runs: standing ones, of which those on the device tell its ceilings.
    """

    def __init__(self, forecaster: Forecaster, place: Place, runs: pd.DataFrame) -> None:
        self.forecaster, self.place, self.runs = forecaster, place, runs
        fitted = forecaster.family(place.query((1, 1, 1), ""))
        assert fitted is not None
        timed = fitted.cells[fitted.cells["baseline_ms"].notna()]["device"]
        self.timed_on = place.device if fitted.arms.timed(place.device) else str(timed.mode().iloc[0])
        self.times = BaselineTimes(fitted, self.timed_on)
        self._known: dict[tuple[Shape, str], Forecast] = {}

    def layers(self, chosen: Chosen) -> list[Layers]:
        """A row per shape and treatment."""
        shapes = np.array([shape for shape, _, _ in chosen], dtype=np.float64).reshape(-1, 3)
        alone_ms, spread = self.times(shapes)
        timed = zip(chosen.items(), alone_ms.tolist(), spread.tolist(), strict=True)
        return [self._row(*key, calls, ms, sd) for (key, calls), ms, sd in timed]

    def forecast(self, shape: Shape, quant: str) -> Forecast:
        """Of one layer alone."""
        if (shape, quant) not in self._known:
            self._known[shape, quant] = self.forecaster.one(self.place.query(shape, quant))
        return self._known[shape, quant]

    @cached_property
    def tflop_s(self) -> float:
        """At which the device keeps multiplying, unquantized: the newest ceiling of a run, else of long cells."""
        return self._ceiling(f"ceiling/{self.place.dtype}_tflop_s", self.times.sustained_tflop_s)

    @property
    def gb_s(self) -> float:
        """What it moves: the newest ceiling of a run, else how fast cells bring weights."""
        return self._ceiling("ceiling/copy_gb_s", self.times.bandwidth_gb_s)

    def _row(self, shape: Shape, quant: str, left: str, calls: int, alone_ms: float, spread: float) -> Layers:
        own_ms = calls * self._held(alone_ms, shape, 1.0)
        row = Layers(*shape, calls, quant, own_ms, own_ms, left=left, baseline_spread=spread)
        if not quant:
            return row
        told = self.forecast(shape, quant)
        if np.isnan(told.speedup):
            return replace(row, unknown=told.reason)
        treated_ms = calls * self._held(alone_ms / told.speedup, shape, roofline(quant)[1])
        return replace(row, treated_ms=treated_ms, speedup=told.speedup, low=told.low, high=told.high)

    def _held(self, alone_ms: float, shape: Shape, rate: float) -> float:
        """Inside a model; `rate`: how many times the unquantized one a scheme multiplies at."""
        at: Array = np.array([shape], dtype=np.float64)
        return float(within_whole(np.array([alone_ms]), at, rate * self.tflop_s)[0])

    def _ceiling(self, name: str, seen: float) -> float:
        rows = self.runs[self.runs["device"] == self.timed_on]
        values = rows.sort_values("started_at")[name].dropna().tolist() if name in rows else []
        return float(values[-1]) if values else seen


def untimed(fitted: Family) -> str:
    """Why no time can be told of a family's layers; empty where it can."""
    none = fitted.cells["baseline_ms"].isna().all()
    return (
        "no cell has times of its own (baseline_ms): how much of a model its layers are cannot be told"
        if none
        else ""
    )
