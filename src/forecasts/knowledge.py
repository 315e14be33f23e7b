"""All that is known of single layers: what was measured here or imported, and what travels with the program.

A device that has many cells of its own is foretold by these alone; one that has few also by those that travel, among
them those of its like: a cell that is measured must not make it known less.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pandas as pd

from src.analysis.runs.frame import tidy
from src.config.schema.measure import MeasureConf
from src.forecasts.evidence.cells import is_cpu, own_cells, together
from src.forecasts.evidence.known import known_cells, told_of
from src.forecasts.forecast import Forecaster

_MANY = 40  # cells of a device, of any scheme


class Knowledge:
    """Forecasts for any device: of one that was measured by what was measured, of others by all there is.

    Args:
        measured: own cells and imported ones, the newest own one last.
        margin: a speedup within it is neutral.
        devices: that runs know, if only of models.
    """

    def __init__(self, measured: pd.DataFrame, margin: float, devices: Iterable[str] = ()) -> None:
        self.measured, self.margin, self._devices = measured, margin, [*devices]

    @cached_property
    def beyond(self) -> pd.DataFrame:
        """Cells that travel with the program, of devices without many here."""
        counts = self.measured["device"].value_counts()
        known = known_cells(counts.index[counts >= _MANY])
        return together(known.iloc[:0], known, [*counts.index, *self._devices])

    @cached_property
    def cells(self) -> pd.DataFrame:
        """All of them."""
        return pd.concat([part for part in (self.measured, self.beyond) if len(part)], ignore_index=True)

    @cached_property
    def here(self) -> Forecaster:
        """Fitted to what was measured alone; there is some."""
        return Forecaster(self.measured, self.margin)

    @cached_property
    def everywhere(self) -> Forecaster:
        """Fitted to all cells."""
        return Forecaster(self.cells, self.margin)

    def of(self, device: str) -> Forecaster:
        """What foretells a device."""
        own = int((self.measured["device"] == device).sum())
        travelled = self.beyond["device"].map(is_cpu) == is_cpu(device)
        alone = own >= _MANY or (own > 0 and not travelled.any())
        return self.here if alone else self.everywhere

    def note(self, device: str) -> str:
        """What is to be said of forecasts for a device; empty where it was measured often enough."""
        return told_of(device, self.beyond, int((self.measured["device"] == device).sum()))


def learned(outputs: Path, devices: Iterable[str] = ()) -> tuple[pd.DataFrame, Knowledge]:
    """The standing runs of an outputs folder, and what their single layers tell.

    Args:
        outputs: that there need not be.
        devices: that are known beside those of the runs.
    """
    runs = tidy([], MeasureConf.margin)
    if (outputs / "runs").is_dir():
        from src.analysis.runs.recorded import recorded  # MLflow

        runs = recorded(outputs, MeasureConf.margin)[0]
    return runs, Knowledge(own_cells(runs), MeasureConf.margin, [*runs["device"], *devices])
