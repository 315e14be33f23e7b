"""One look at everything: own runs and imports to rules, forecasts and how far both can be trusted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.analysis.runs.layer_tables import Table
from src.config.paths import command
from src.config.schema.root import RootConf
from src.forecasts.evidence.cells import OWN, evenly, own_cells, together
from src.forecasts.evidence.imports import Imported, field_names, read_imports
from src.forecasts.forecast import UNKNOWN, Forecaster, Query
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.attribution import Attribution, attributions
from src.forecasts.models.layers import ModelLayer, asked_layers, measured_layers
from src.forecasts.queries import read_queries, usual_place
from src.regimes.learned import keep, recall
from src.regimes.rules import Rule, fired, rules
from src.regimes.trials import Trial, trials

if TYPE_CHECKING:
    from src.forecasts.models.asked import AskedModel

MODEL = "model"  # predict=model
PREDICTIONS_NAME, LAYERS_NAME = "predictions.csv", "predicted_layers.csv"
_LEAST = 8  # cells that rules are made of
_FOLDS = (
    4  # of each kind of trial in a report, which is to be quick; the benchmark leaves out each thing alone
)
_TRIED = ("one (K, N)", "one M", "one device")
_SIDES = 3  # (K, N), without which leaving one out is no test
_MOST_CELLS = 6000  # that are fitted
_MOST_TRIED = 600  # cells; more are tested on a sample of so many


@dataclass(frozen=True)
class Regimes:
    """What was found; `predictions` has one row per query, empty without a `predict`."""

    imported: Imported
    cells: pd.DataFrame
    rules: list[Rule] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    refused: list[str] = field(default_factory=list)  # rows of imports and of the file of queries
    models: "list[AskedModel]" = field(default_factory=list)  # of predict=model
    attributions: list[Attribution] = field(default_factory=list)  # of measured models
    unlearned: int = 0  # of `cells`, those that came since rules and trials were made
    left_out: int = 0  # cells beside `cells`, where there are very many
    layers: list[ModelLayer] = field(default_factory=list)  # of measured models and of those of predict=model
    knowledge: Knowledge | None = None

    @property
    def map_cells(self) -> pd.DataFrame:
        """Cells from elsewhere on the maps: imported ones, and those that are known of asked devices without any."""
        here = self.cells[self.cells["source"] != OWN]
        asked = {each.place.device for each in self.models}
        if self.knowledge is None or not asked - {*self.cells["device"]}:
            return here
        beyond = self.knowledge.beyond
        parts = (here, beyond[beyond["device"].isin(asked)])
        return pd.concat([part for part in parts if len(part)] or [here], ignore_index=True)


def regimes(
    runs: pd.DataFrame,
    imports: list[str],
    predict: str | None,
    aliases: Mapping[str, str],
    margin: float,
    asked: Sequence[tuple[RootConf, list[str]]] = (),
    tables: Callable[[], Mapping[str, Table]] = dict,
    device: str | None = None,
    folder: Path | None = None,
) -> Regimes:
    """From standing runs and files to rules and forecasts.

    Args:
        runs: standing ones.
        imports: CSV files.
        predict: a CSV file of shapes, or MODEL.
        aliases: other names of schemes -> this program's.
        margin: a speedup within it is neutral.
        asked: of predict=model, each run with its words.
        tables: gives the layer tables of measured models, by run key.
        device: of rows of `predict` that name none.
        folder: where what was learned of very many cells is kept.

    Raises:
        ConfigError: a file cannot be read.
    """
    imported = read_imports(imports, aliases)
    every = together(own_cells(runs), imported.cells, runs["device"])
    cells = evenly(every, _MOST_CELLS)
    knowledge = Knowledge(cells, margin, runs["device"])
    left_out = len(every) - len(cells)
    found = Regimes(imported, cells, refused=imported.refused, left_out=left_out, knowledge=knowledge)
    if len(cells):
        found = _learned(found, knowledge, folder)
        if of_models := tables():
            gaps = attributions(knowledge.here, runs, of_models)
            found = replace(found, attributions=gaps, layers=measured_layers(knowledge.here, runs, of_models))
    if predict == MODEL:
        models = _models(knowledge, runs, asked)
        drawn = {(each.model, each.place) for each in found.layers}
        more = [each for each in asked_layers(models) if (each.model, each.place) not in drawn]
        return replace(found, models=models, layers=[*more, *found.layers])
    if predict is None:
        return found
    place = usual_place(cells if len(cells) and not device else knowledge.cells, device)
    if cells.empty and not device:
        return replace(found, refused=[*found.refused, _nothing_measured(predict, knowledge)])
    queries, wrong = read_queries(Path(predict), knowledge.cells, field_names() | dict(aliases), place)
    return replace(
        found, predictions=_foretold(knowledge, found.rules, queries), refused=[*found.refused, *wrong]
    )


def _learned(found: Regimes, knowledge: Knowledge, folder: Path | None) -> Regimes:
    """Rules, and how far they and the forecasts can be trusted."""
    cells, margin = found.cells, knowledge.margin
    if (before := recall(folder, cells, margin)) is not None:
        return replace(found, rules=before[0], trials=before[1], unlearned=before[2])
    tried = cells if len(cells) <= _MOST_TRIED else cells.sample(_MOST_TRIED, random_state=0)
    several = tried[["K", "N"]].drop_duplicates().shape[0] >= _SIDES
    if len(cells) < _LEAST:
        return found
    tested = trials(tried, margin, _FOLDS, _TRIED) if several else []
    found = replace(found, rules=known_rules(knowledge.here), trials=tested)
    keep(folder, cells, margin, found.rules, found.trials)
    return found


def _models(
    knowledge: Knowledge, runs: pd.DataFrame, asked: Sequence[tuple[RootConf, list[str]]]
) -> "list[AskedModel]":
    if not asked:
        return []
    from src.forecasts.models.asked import ModelForecaster  # torch and the models' libraries

    foretell = ModelForecaster(knowledge, runs)
    return [foretell(cfg, words) for cfg, words in asked]


def _nothing_measured(predict: str, knowledge: Knowledge) -> str:
    measured, names = command("run", "sweeps=linear_shapes"), ", ".join(knowledge.beyond["device"].unique())
    return (
        f"predict={predict}: no single layer was measured; {measured} does, import=FILE.csv takes what others "
        f"measured, device=NAME foretells for one whose cells came with this program ({names})"
    )


def _foretold(knowledge: Knowledge, known: list[Rule], queries: list[Query]) -> pd.DataFrame:
    """Each query by what foretells its device; of a device that is not here the reason says so."""
    here = [query for query in queries if knowledge.of(query.device) is not knowledge.everywhere]
    away = [query for query in queries if knowledge.of(query.device) is knowledge.everywhere]
    parts = [foretold(knowledge.here, known, here)] if here else []
    if away:
        rows = foretold(knowledge.everywhere, known_rules(knowledge.everywhere), away)
        notes = rows["device"].map(knowledge.note)
        rows["reason"] = [("; ".join(filter(None, each))) for each in zip(rows["reason"], notes, strict=True)]
        parts.append(rows)
    if not parts:
        return pd.DataFrame()
    order = {query: index for index, query in enumerate([*here, *away])}
    return (
        pd.concat(parts, ignore_index=True).iloc[[order[query] for query in queries]].reset_index(drop=True)
    )


def known_rules(forecaster: Forecaster) -> list[Rule]:
    """The rules of every family."""
    return [
        rule
        for mode, dtype, fitted in forecaster.families()
        for rule in rules(fitted, mode, dtype, forecaster.margin)
    ]


def foretold(forecaster: Forecaster, known: list[Rule], queries: list[Query]) -> pd.DataFrame:
    """The forecast of each query, with the rule that fired and its cells."""
    found = forecaster(queries)
    matched = [_rule(forecaster, known, query) for query in queries]
    told = found["verdict"] != UNKNOWN
    texts = [f"{r.quant} {r.verdict} {r.where}" if r else "" for r in matched]
    found["rule"] = np.where(told, texts, "") if len(found) else []
    found["rule_cells"] = np.where(told, [r.cells if r else 0 for r in matched], 0) if len(found) else []
    found["rule_right"] = np.where(told, [r.right if r else 0 for r in matched], 0) if len(found) else []
    return found


def write_predictions(found: Regimes, folder: Path) -> list[Path]:
    """Write `predictions.csv`, of models also their layers, where there are any; returns the paths."""
    tables = {PREDICTIONS_NAME: found.predictions}
    if found.models:
        from src.forecasts.models.tables import layers_table, models_table

        tables = {PREDICTIONS_NAME: models_table(found.models), LAYERS_NAME: layers_table(found.models)}
    paths = []
    for name, rows in tables.items():
        if len(rows):
            rows.round({"speedup": 4, "low": 4, "high": 4, "sure": 3}).to_csv(folder / name, index=False)
            paths.append(folder / name)
    return paths


def _rule(forecaster: Forecaster, known: list[Rule], query: Query) -> Rule | None:
    fitted = forecaster.family(query)
    if fitted is None or query.device not in fitted.baselines:
        return None
    shape = np.array([query.M, query.K, query.N], dtype=np.float64)
    same = [rule for rule in known if (rule.compile, rule.dtype) == (forecaster.mode(query), query.dtype)]
    return fired(same, query.quant, query.device, shape, fitted.baselines[query.device])
