"""All that is known of single layers: what was measured here or imported, and what travels with the program."""

from collections.abc import Iterable
from functools import cached_property

import pandas as pd

from src.regimes.cells import together
from src.regimes.forecast import Forecaster
from src.regimes.known import known_cells, told_of


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
        """Cells that travel with the program, of devices without any here."""
        known = known_cells(self.measured["device"].unique())
        return together(known.iloc[:0], known, self._devices)

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
        return self.here if (self.measured["device"] == device).any() else self.everywhere

    def note(self, device: str) -> str:
        """What is to be said of forecasts for a device; empty where it was measured."""
        return told_of(device, self.beyond)
