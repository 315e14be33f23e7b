"""What is asked of the rules and the costs: forecasts of single layers and of whole models, and their tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.config.paths import command
from src.config.schema.root import MODEL, RootConf
from src.forecasts.evidence.imports import field_names
from src.forecasts.forecast import UNKNOWN, Forecaster, Query
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.layers import asked_layers
from src.forecasts.queries import read_queries, usual_place
from src.regimes.learned import known_rules
from src.regimes.regimes import Regimes
from src.regimes.rules import Rule, fired

if TYPE_CHECKING:
    from src.forecasts.models.asked import AskedModel

PREDICTIONS_NAME, LAYERS_NAME = "predictions.csv", "predicted_layers.csv"


@dataclass(frozen=True)
class Question:
    """What is to be predicted; by default nothing."""

    predict: str | None = None  # a CSV file of shapes, or MODEL
    device: str | None = None  # of rows of `predict` that name none
    asked: Sequence[tuple[RootConf, list[str]]] = ()  # of predict=model, each run with its words
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of schemes -> this program's


def predict(found: Regimes, runs: pd.DataFrame, question: Question) -> Regimes:
    """What was found, with the answers to a question.

    Args:
        found: by `regimes`.
        runs: standing ones, that it was found in.
        question: what is asked.

    Raises:
        ConfigError: the file of shapes cannot be read.
    """
    if question.predict is None:
        return found
    if question.predict == MODEL:
        return _with_models(found, runs, question)
    return _with_predictions(found, question, question.predict)


def _with_models(found: Regimes, runs: pd.DataFrame, question: Question) -> Regimes:
    models = _models(found.knowledge, runs, question.asked)
    drawn = {(each.model, each.place) for each in found.layers}
    more = [each for each in asked_layers(models) if (each.model, each.place) not in drawn]
    return replace(found, models=models, layers=[*more, *found.layers])


def _with_predictions(found: Regimes, question: Question, file: str) -> Regimes:
    knowledge, cells = found.knowledge, found.cells
    nowhere = cells.empty and not question.device
    place = usual_place(knowledge.cells if nowhere or question.device else cells, question.device)
    if nowhere:  # each row has to name its own
        place |= {"device": ""}
    queries, wrong = read_queries(Path(file), knowledge.cells, field_names() | dict(question.aliases), place)
    if nowhere and not queries:
        wrong.append(_nothing_measured(file, knowledge))
    return replace(
        found, predictions=_predicted(knowledge, found.rules, queries), refused=[*found.refused, *wrong]
    )


def _models(
    knowledge: Knowledge, runs: pd.DataFrame, asked: Sequence[tuple[RootConf, list[str]]]
) -> "list[AskedModel]":
    if not asked:
        return []
    from src.forecasts.models.asked import ModelForecaster  # torch and the models' libraries

    predict = ModelForecaster(knowledge, runs)
    return [predict(cfg, words) for cfg, words in asked]


def _nothing_measured(predict: str, knowledge: Knowledge) -> str:
    measured, names = command("run", "sweeps=linear_shapes"), ", ".join(knowledge.beyond["device"].unique())
    return (
        f"predict={predict}: no single layer was measured undisturbed; {measured} does, import=FILE.csv takes what "
        f"others measured, device=NAME predicts for one whose cells came with this program ({names})"
    )


def _predicted(knowledge: Knowledge, known: list[Rule], queries: list[Query]) -> pd.DataFrame:
    """Each query by what predicts its device; of a device that is not here the reason says so."""
    here = [query for query in queries if knowledge.of(query.device) is not knowledge.everywhere]
    away = [query for query in queries if knowledge.of(query.device) is knowledge.everywhere]
    parts = [predicted(knowledge.here, known, here)] if here else []
    if away:
        rows = predicted(knowledge.everywhere, known_rules(knowledge.everywhere), away)
        notes = rows["device"].map(knowledge.note)
        rows["reason"] = [("; ".join(filter(None, each))) for each in zip(rows["reason"], notes, strict=True)]
        parts.append(rows)
    if not parts:
        return pd.DataFrame()
    order = {query: index for index, query in enumerate([*here, *away])}
    return (
        pd.concat(parts, ignore_index=True).iloc[[order[query] for query in queries]].reset_index(drop=True)
    )


def predicted(forecaster: Forecaster, known: list[Rule], queries: list[Query]) -> pd.DataFrame:
    """The forecast of each query, with the rule that fired and its cells."""
    found = forecaster(queries)
    matched = [_rule(forecaster, known, query) for query in queries]
    told = found["verdict"] != UNKNOWN
    texts = [rule.claim if rule else "" for rule in matched]
    found["rule"] = np.where(told, texts, "") if len(found) else []
    found["rule_cells"] = np.where(told, [r.cells if r else 0 for r in matched], 0) if len(found) else []
    right = [(r.right if r else 0) if known else 0 for r, known in zip(matched, told, strict=True)]
    found["rule_right"] = pd.Series(right, dtype="Int64")  # empty: not tested
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
    if fitted is None or query.device not in fitted.arms.baselines:
        return None
    shape = np.array([query.M, query.K, query.N], dtype=np.float64)
    same = [rule for rule in known if (rule.compile, rule.dtype) == (forecaster.mode(query), query.dtype)]
    return fired(same, query.quant, query.device, shape, fitted.arms.baselines[query.device])
