"""The Linear layers of models, shape by shape, to be drawn beside the cells of single layers."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from src.analysis.runs.frame import Row, model_level
from src.analysis.verdicts import workload_text
from src.config.schema.model import DENOISER, PIPELINE
from src.config.schema.root import RootConf
from src.forecasts.evidence.kernels import like
from src.forecasts.forecast import Forecaster, Place
from src.forecasts.models.layer_times import LayerTimes
from src.forecasts.reach import Shape

if TYPE_CHECKING:
    from src.forecasts.models.asked import AskedModel  # torch and the models' libraries

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_MOST_NAMES = 3  # of a shape


@dataclass(frozen=True)
class ModelLayer:
    """All Linear layers of one shape in one call of a model."""

    model: str  # with batch and resolution
    place: Place  # its compile mode is the one under which kernels of single layers are known
    M: int
    K: int
    N: int
    calls: int
    names: str
    share: float  # of the time of the unquantized call, as predicted; nan: not known


def measured_layers(
    forecaster: Forecaster, runs: pd.DataFrame, tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[ModelLayer]:
    """Of each measured workload on each device, by the layer table of its newest run.

    Args:
        forecaster: of single layers, which predicts how long each takes.
        runs: standing.
        tables: run key -> its layers.
    """
    found: list[ModelLayer] = []
    listed = model_level(runs[runs["run_key"].isin(list(tables))])
    for _, row in listed.sort_values("started_at", ascending=False).iterrows():
        table, place, model = tables.get(str(row["run_key"])), _place(row), workload_text(row)
        known = any((each.model, each.place) == (model, place) for each in found)
        if table and not known and row["target"] != PIPELINE:
            shapes = _by_shape(
                (
                    (each["M"], each["K"], each["N"]),
                    each["calls"],
                    str(each.get("name") or each.get("fqn", "")),
                )
                for each in table
            )
            shares = _shares(forecaster, runs, row, shapes)
            found += [
                ModelLayer(model, place, *shape, *told, shares.get(shape, math.nan))
                for shape, told in shapes.items()
            ]
    return found


def asked_layers(models: "Iterable[AskedModel]") -> Iterator[ModelLayer]:
    """Of the models of which a speedup was asked, each workload once on each device."""
    known = set()
    for asked in models:
        place = Place(asked.place.device, like(asked.place.compile), asked.place.dtype)
        model = asked_text(asked.cfg)
        if asked.whole is None or (model, place) in known:
            continue
        known.add((model, place))
        times: defaultdict[Shape, float] = defaultdict(float)
        for each in asked.whole.layers:
            times[each.M, each.K, each.N] += each.baseline_ms
        shapes = _by_shape((layer.shape, layer.calls, layer.name) for layer in asked.rows)
        for shape, told in shapes.items():
            yield ModelLayer(model, place, *shape, *told, times[shape] / asked.whole.baseline_ms)


def asked_text(cfg: RootConf) -> str:
    """``flux-dev b1 1024px``."""
    target = "" if cfg.target == DENOISER else f"/{cfg.target}"
    size = f" {cfg.resolution}px" if cfg.resolution else ""
    size += f" {cfg.frames} frames" if cfg.frames else ""
    return f"{cfg.model.name}{target} b{cfg.batch}{size}"


def layer_names(names: Iterable[str]) -> str:
    """``blocks.*.attn.to_q, blocks.*.attn.to_k and 3 more``: a number within a name may be any."""
    alike = [*dict.fromkeys(_NUMBER.sub("*", name) for name in names)]
    more = f" and {len(alike) - _MOST_NAMES} more" if len(alike) > _MOST_NAMES else ""
    return ", ".join(alike[:_MOST_NAMES]) + more


def _by_shape(layers: Iterable[tuple[Shape, int, str]]) -> dict[Shape, tuple[int, str]]:
    """Of each shape the calls of its layers, and their names."""
    calls, names = Counter[Shape](), defaultdict[Shape, list[str]](list)
    for shape, count, name in layers:
        calls[shape] += count
        names[shape].append(name)
    return {shape: (count, layer_names(names[shape])) for shape, count in calls.items()}


def _shares(
    forecaster: Forecaster, runs: pd.DataFrame, row: Row, shapes: Mapping[Shape, tuple[int, str]]
) -> dict[Shape, float]:
    """Of the call's measured time, or of all layers together where these are predicted to take longer."""
    place = _place(row)
    fitted = forecaster.family(place.query((1, 1, 1), ""))
    if fitted is None or not fitted.arms.timed(place.device):
        return {}
    layers = LayerTimes(forecaster, place, runs).layers(
        {(shape, "", ""): calls for shape, (calls, _) in shapes.items()}
    )
    together = sum(each.baseline_ms for each in layers)
    whole = max(together, float(row["latency/baseline_median_ms"] or 0.0))
    return {(each.M, each.K, each.N): each.baseline_ms / whole for each in layers}


def _place(row: Row) -> Place:
    return Place(str(row["device"]), like(str(row["compile"])), str(row["dtype"]))
