"""What the rules foretell of a planned run: `plan=true` shows it beside memory and time."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.analysis.frame import tidy
from src.config.schema import MeasureConf, RootConf
from src.planning.footprint import Footprints
from src.planning.matrix import Promise
from src.regimes.asked import ModelForecaster, device_asked
from src.regimes.cells import is_cpu, own_cells
from src.regimes.knowledge import Knowledge


class Promises:
    """Foretells runs by the records in an outputs folder, and by what travels with the program.

    Args:
        outputs: of the sweep.
        footprints: of the plan, each made once for both.
    """

    def __init__(self, outputs: Path, footprints: Footprints) -> None:
        self.outputs, self.footprints = outputs, footprints

    def __call__(self, cfg: RootConf) -> Promise:
        """What is foretold of one run, its dtype settled."""
        device = device_asked(cfg, self._knowledge)
        if not any(is_cpu(device) == is_cpu(other) for other in self._devices if device):
            return Promise("unknown", reason="no single layer was measured on a device like it")
        asked = self._forecaster(cfg, _words(cfg))
        told, notes = asked.forecast, asked.whole.notes if asked.whole else []
        sure = 0.0 if math.isnan(told.sure) else told.sure
        reason = told.reason or "; ".join(notes)
        return Promise(told.verdict, told.speedup, told.low, told.high, sure, reason)

    @cached_property
    def _runs(self) -> pd.DataFrame:
        if not (self.outputs / "runs").is_dir():
            return tidy([], MeasureConf.margin)
        from src.analysis.recorded import recorded  # MLflow

        return recorded(self.outputs, MeasureConf.margin)[0]

    @cached_property
    def _knowledge(self) -> Knowledge:
        return Knowledge(own_cells(self._runs), MeasureConf.margin, self._runs["device"])

    @cached_property
    def _devices(self) -> Sequence[str]:
        return [str(name) for name in self._knowledge.cells["device"].unique()]

    @cached_property
    def _forecaster(self) -> ModelForecaster:
        return ModelForecaster(self._knowledge, self._runs, self.footprints)


def _words(cfg: RootConf) -> list[str]:
    """The run's overrides, as far as they are known: the command line's, and the run's own values of a sweep."""
    given: list[str] = []
    if HydraConfig.initialized():
        given = list(OmegaConf.to_container(HydraConfig.get().overrides.task))  # type: ignore[arg-type]
    common = [word for word in given if word.lstrip("+").partition("=")[0] not in cfg.varied]
    return [*common, *(f"{key}={value}" for key, value in cfg.varied.items())]
