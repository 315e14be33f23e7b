"""The rules, asked in a process of their own: what fitting them loads is not in the process that is timed."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.noise import quiet_libraries
from src.config.schema.root import RootConf
from src.planning.matrix import Promise
from src.processes.children import fork_server
from src.records.mlflow.content import identity_text

if TYPE_CHECKING:
    import pandas as pd

    from src.forecasts.models.asked import ModelForecaster

Shape = tuple[int, int, int]  # M, K, N
Treated = Mapping[tuple[Shape, str, str], int]  # shape, scheme, why none -> calls in one call of the model


@dataclass(frozen=True)
class ToldLayer:
    """What the rules say of layers of one shape."""

    baseline_ms: float  # of one call of an unquantized one
    candidates: dict[str, Promise]
    gaining: list[str]  # the candidates that are worth it, the best first


@dataclass(frozen=True)
class ToldLayers:
    """What they say of all shapes of a model."""

    shapes: dict[Shape, ToldLayer] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what to mind
    refused: str = ""  # why they say nothing at all


class Rules:
    """What the records of an outputs folder, and the cells that travel with the program, tell of a device.

    Args:
        cfg: of the run, its dtype settled.
        device: that it is on, as in its record.
    """

    def __init__(self, cfg: RootConf, device: Mapping[str, Any]) -> None:
        self.cfg = cfg
        self._place = (str(Path(cfg.outputs).resolve()), str(device["name"]), identity_text(dict(device)))

    def __enter__(self) -> "Rules":
        self._pool = ProcessPoolExecutor(1, mp_context=fork_server())
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def layers(self, fits: Mapping[Shape, Sequence[str]]) -> ToldLayers:
        """What is predicted of shapes.

        Args:
            fits: shape -> the candidates that may take it.
        """
        return self._pool.submit(told_layers, self.cfg, self._place, dict(fits)).result()

    def whole(self, treated: Treated) -> tuple[Promise, float]:
        """What is predicted of the model with layers treated so, and ms of its unquantized call; nan: unknown."""
        return self._pool.submit(told_whole, self.cfg, self._place, dict(treated)).result()


def told_layers(
    cfg: RootConf, place: tuple[str, str, str], fits: Mapping[Shape, Sequence[str]]
) -> ToldLayers:
    """What `Rules.layers` says; place: outputs folder, the device's name and identity."""
    import numpy as np

    from src.forecasts.models.asked import gaining
    from src.forecasts.models.promises import promise
    from src.forecasts.queries import kernels_of

    with quiet_libraries():
        predict = _forecaster(*place)
        asked = predict.asked(cfg)
        if why := predict.unknown_layers(asked):
            return ToldLayers(refused=why)
        times = predict.times(asked.place)
        alone_ms, _ = times.times(np.array([*fits], dtype=np.float64).reshape(-1, 3))
        found, kernels = {}, kernels_of(cfg.quant)
        for (shape, names), ms in zip(fits.items(), alone_ms.tolist(), strict=True):
            told = {name: times.forecast(shape, kernels.get(name, name)) for name in names}
            promises = {name: promise(each) for name, each in told.items()}
            found[shape] = ToldLayer(ms, promises, gaining(cfg.quant, told))
        note = predict.knowledge.note(asked.place.device)
        return ToldLayers(found, [note] if note else [])


def told_whole(cfg: RootConf, place: tuple[str, str, str], treated: Treated) -> tuple[Promise, float]:
    """What `Rules.whole` says."""
    from src.forecasts.models.promises import promise
    from src.forecasts.queries import kernels_of

    kernels = kernels_of(cfg.quant)
    by_kernel = {(shape, kernels.get(name, name), why): n for (shape, name, why), n in treated.items()}
    with quiet_libraries():
        predict = _forecaster(*place)
        asked = predict.of_layers(predict.asked(cfg), by_kernel)
        whole = asked.whole
        return promise(asked.forecast, whole.notes if whole else ()), whole.baseline_ms if whole else math.nan


@cache
def _forecaster(outputs: str, name: str, identity: str) -> "ModelForecaster":
    from src.forecasts.knowledge import learned
    from src.forecasts.models.asked import ModelForecaster

    runs, knowledge = learned(Path(outputs), [name])
    return ModelForecaster(knowledge, runs, device=_called(runs, name, identity))


def _called(runs: "pd.DataFrame", name: str, identity: str) -> str:
    """What the device is called among those of the runs; by a name of its own if none of that name is the same."""
    namesakes = runs[runs["device_name"] == name]
    same = namesakes[namesakes["device_identity"] == identity]
    if len(same):
        return str(same["device"].iloc[-1])
    return f"{name} [not measured before]" if len(namesakes) else name
