"""All that is known of single layers: what was measured here or imported, and what travels with the program.

Every device is predicted by both, where cells of its kind travel: a measured cell must not make it known less.
Where one stands here, the one that travelled is left out; and those of a device and scheme count the less, the more
those that were measured here differ from what they predict: other versions, another card.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.analysis.runs.frame import tidy
from src.config.schema.measure import MeasureConf
from src.forecasts.evidence.cells import PLACE, SHAPE, is_cpu, own_cells, together
from src.forecasts.evidence.known import known_cells, told_of
from src.forecasts.forecast import Forecaster, Query

_ENDS = 1.96  # standard errors from the middle of an interval to its ends


class Knowledge:
    """Forecasts for any device, by what was measured and by what travels.

    Args:
        measured: own cells and imported ones, the newest own one last.
        margin: a speedup within it is neutral.
        devices: that runs know, if only of models.
        known: cells that travel; None: those of this program.
    """

    def __init__(
        self,
        measured: pd.DataFrame,
        margin: float,
        devices: Iterable[str] = (),
        known: pd.DataFrame | None = None,
    ) -> None:
        self.measured, self.margin, self._devices, self._known = measured, margin, [*devices], known

    @cached_property
    def beyond(self) -> pd.DataFrame:
        """Cells that travel, but for those that were measured here, or imported."""
        known = known_cells() if self._known is None else self._known
        named = together(known.iloc[:0], known, [*self.measured["device"].unique(), *self._devices])
        return _doubted(named, self.measured, self.margin)

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
        """What predicts a device."""
        travelled = self.beyond["device"].map(is_cpu) == is_cpu(device)
        measured = (self.measured["device"] == device).any()
        return self.here if measured and not travelled.any() else self.everywhere

    def note(self, device: str) -> str:
        """What is to be said of forecasts for a device; empty where none of its cells travelled."""
        return told_of(device, self.beyond, int((self.measured["device"] == device).sum()))


def _doubted(known: pd.DataFrame, measured: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Cells that travel, without those that stand in `measured`; an interval says how far they differ from it."""
    cell = [*PLACE, *SHAPE, "quant"]
    both = measured[measured["device"].isin(known["device"])]
    if both.empty:
        return known
    told = Forecaster(known, margin)([Query(*row) for row in both[cell].itertuples(index=False, name=None)])
    off = np.log(both["speedup"].to_numpy() / told["speedup"].to_numpy()) ** 2
    differ = np.sqrt(both.assign(off=off).groupby(["device", "quant"])["off"].mean()).fillna(0.0)
    each = pd.MultiIndex.from_frame(known[["device", "quant"]])
    ends = np.exp(_ENDS * differ.reindex(each).fillna(0.0).to_numpy())
    here = pd.MultiIndex.from_frame(known[cell]).isin(pd.MultiIndex.from_frame(both[cell]))
    low, high = (known[end].fillna(known["speedup"]) for end in ("low", "high"))
    found = known.assign(low=low / ends, high=high * ends)
    return found[~here].reset_index(drop=True)


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
