"""What the rules predict of a planned run: `plan=true` shows it beside memory and time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from src.config.schema.root import RootConf
from src.forecasts.evidence.cells import is_cpu
from src.forecasts.forecast import Forecast
from src.forecasts.knowledge import Knowledge, learned
from src.forecasts.models.asked import ModelForecaster, device_asked
from src.planning.matrix import Promise
from src.planning.needs.footprint import Footprints


class Promises:
    """Predicts runs by the records in an outputs folder, and by what travels with the program.

    Args:
        outputs: of the sweep.
        footprints: of the plan, each made once for both.
        given: overrides that all runs have.
    """

    def __init__(self, outputs: Path, footprints: Footprints, given: Sequence[str] = ()) -> None:
        self.outputs, self.footprints = outputs, footprints
        self._given = given

    def __call__(self, cfg: RootConf) -> Promise:
        """What is predicted of one run, its dtype settled."""
        device = device_asked(cfg, self._learned[1])
        if not any(is_cpu(device) == is_cpu(other) for other in self._devices if device):
            why = "no single layer was measured undisturbed on a device like it"
            return Promise("unknown", reasons=(why,))
        asked = self._forecaster(cfg, self._words(cfg))
        told = promise(asked.forecast, asked.whole.notes if asked.whole else ())
        return replace(told, baseline_ms=asked.whole.baseline_ms) if asked.whole else told

    def _words(self, cfg: RootConf) -> list[str]:
        """The run's overrides, as far as they are known: those of all runs, and the run's own values of a sweep."""
        common = [word for word in self._given if word.lstrip("+").partition("=")[0] not in cfg.varied]
        return [*common, *(f"{key}={value}" for key, value in cfg.varied.items())]

    @cached_property
    def _learned(self) -> tuple[pd.DataFrame, Knowledge]:
        return learned(self.outputs)

    @cached_property
    def _devices(self) -> Sequence[str]:
        return [str(name) for name in self._learned[1].cells["device"].unique()]

    @cached_property
    def _forecaster(self) -> ModelForecaster:
        runs, knowledge = self._learned
        return ModelForecaster(knowledge, runs, self.footprints)


def promise(told: Forecast, notes: Iterable[str] = ()) -> Promise:
    """A forecast in the words of plans.

    Args:
        told: what is predicted.
        notes: what to mind, if the forecast itself says nothing.
    """
    sure = 0.0 if math.isnan(told.sure) else told.sure
    reasons = (told.reason,) if told.reason else tuple(notes)
    return Promise(told.verdict, told.speedup, told.low, told.high, sure, reasons)
