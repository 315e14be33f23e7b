"""One look at everything: own runs and imports to rules, and to how far these and forecasts can be trusted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.analysis.runs.layer_tables import Table
from src.forecasts.evidence.cells import OWN, evenly, own_cells, together
from src.forecasts.evidence.imports import Imported
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.attribution import Attribution, attributions
from src.forecasts.models.layers import ModelLayer, measured_layers
from src.regimes.learned import known_rules, known_trials
from src.regimes.rules import Rule
from src.regimes.trials import Trial

if TYPE_CHECKING:
    from src.forecasts.models.asked import AskedModel

_LEAST = 8  # cells that rules are made of
_MANY = 2000  # cells; of fewer all is learned each time
_MOST_CELLS = 6000  # that are fitted


@dataclass(frozen=True)
class Regimes:
    """What was found; `predictions` has one row per query, empty where nothing was asked (predictions.py)."""

    imported: Imported
    cells: pd.DataFrame
    knowledge: Knowledge  # what forecasts come from
    rules: list[Rule] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    refused: list[str] = field(default_factory=list)  # rows of imports and of the file of queries
    models: "list[AskedModel]" = field(default_factory=list)  # of predict=model
    attributions: list[Attribution] = field(default_factory=list)  # of measured models
    untested: int = 0  # of `cells`, those that came since the trials were made
    left_out: int = 0  # cells beside `cells`, where there are very many
    layers: list[ModelLayer] = field(default_factory=list)  # of measured models and of those of predict=model

    @property
    def map_cells(self) -> pd.DataFrame:
        """Cells from elsewhere on the maps: imported ones, and those that are known of asked devices without any."""
        here = self.cells[self.cells["source"] != OWN]
        asked = {each.place.device for each in self.models}
        if not asked - {*self.cells["device"]}:
            return here
        beyond = self.knowledge.beyond
        parts = (here, beyond[beyond["device"].isin(asked)])
        return pd.concat([part for part in parts if len(part)] or [here], ignore_index=True)


def regimes(
    runs: pd.DataFrame,
    imported: Imported,
    margin: float,
    tables: Callable[[], Mapping[str, Table]] = dict,
    folder: Path | None = None,
) -> Regimes:
    """From standing runs and imports to rules, and to how far these and forecasts can be trusted.

    Args:
        runs: standing ones.
        imported: what others measured.
        margin: a speedup within it is neutral.
        tables: gives the layer tables of measured models, by run key.
        folder: where what was learned of very many cells is kept.
    """
    every = together(own_cells(runs), imported.cells, runs["device"])
    cells = evenly(every, _MOST_CELLS)
    knowledge = Knowledge(cells, margin, runs["device"])
    found = Regimes(imported, cells, knowledge, refused=imported.refused, left_out=len(every) - len(cells))
    if cells.empty:
        return found
    folder = folder if len(cells) >= _MANY else None
    if len(cells) >= _LEAST:
        tested, untested = known_trials(cells, margin, folder)
        found = replace(found, rules=known_rules(knowledge.here, folder), trials=tested, untested=untested)
    if of_models := tables():
        gaps = attributions(knowledge.here, runs, of_models)
        found = replace(found, attributions=gaps, layers=measured_layers(knowledge.here, runs, of_models))
    return found
