"""Where runs come from, column by column, and the frame of attempts that all give: a row per run of MLflow."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from src.analysis.runs.tracked.variants import may_tell
from src.config.schema.measure import MeasureConf
from src.records.mlflow.options import OPTIONS_TAG, options
from src.records.record import renamed

if TYPE_CHECKING:
    from mlflow.entities import Run

AXES = [
    "model",
    "quant",
    "compile",
    "batch",
    "gpu",
    "resolution",
    "frames",
    "target",
    "dtype",
    "task",
    "recipe",
]
BESIDES = " + "  # in a frame's compile mode, before what a recipe does in both arms
SHAPE = ["M", "K", "N"]
TAGS = [
    *("run_key", "attempt", "sweep", "sweeps", "outcome", "verdict", "withheld", "reason", "remedy"),
    *("device", "device_identity", "baseline_dtype", "pairing", "cache", "processes"),
]
SERIES = ("rounds/", "distribution/")  # of their metrics MLflow gives the last points
NO_STEP = "null"  # ladder.step of a run that is on none
QUANTIZED = '["quant"]'  # a run's usual treatment
ALONE = {  # options that are columns of their own -> what an attempt without one is taken to have
    "weights": ("model.weights.source", ""),
    "weights_id": ("model.weights.id", ""),
    "weights_std": ("model.weights.std", ""),
    "own_margin": ("measure.margin", str(MeasureConf.margin)),
    "confidence": ("measure.confidence", str(MeasureConf.confidence)),
    "drift": ("measure.in_turn_drift", str(MeasureConf.in_turn_drift)),
    "compares": ("task.compares", ""),
    "treatment": ("treatment", QUANTIZED),
    "step": ("ladder.step", ""),
    "steps": ("ladder.order", ""),
    **{f"asked_{name}": (f"model.dims.{name}", "") for name in SHAPE},
}
TEXT = [*AXES, *SHAPE, *TAGS, *ALONE, "options"]

Texts = Sequence[str | None]


class Source(Protocol):
    """Published runs, as columns in one order."""

    @property
    def ids(self) -> Sequence[str]:
        """MLflow's run ids."""

    @property
    def starts_ms(self) -> Sequence[int]:
        """When each run began, ms since 1970."""

    def param(self, name: str) -> Texts:
        """A parameter of each run."""

    def tag(self, name: str) -> Texts:
        """A tag of each run."""

    def options(self) -> Sequence[str]:
        """The options of each run as JSON."""

    def metrics(self) -> Mapping[str, Sequence[float | None]]:
        """Each metric by its name."""


class Runs:
    """MLflow's own entities as a source."""

    def __init__(self, runs: "Iterable[Run]") -> None:
        self._runs = list(runs)
        self.ids = [str(run.info.run_id) for run in self._runs]
        self.starts_ms = [int(run.info.start_time) for run in self._runs]

    def param(self, name: str) -> Texts:
        """A parameter of each run."""
        return [run.data.params.get(name) for run in self._runs]

    def tag(self, name: str) -> Texts:
        """A tag of each run."""
        return [run.data.tags.get(name) for run in self._runs]

    def options(self) -> Sequence[str]:
        """The options of each run as JSON; of one that has no such tag out of its parameters."""
        return [run.data.tags.get(OPTIONS_TAG) or as_text(run.data.params) for run in self._runs]

    def metrics(self) -> Mapping[str, Sequence[float | None]]:
        """Each metric by its name."""
        each = [run.data.metrics for run in self._runs]
        return {name: [found.get(name) for found in each] for name in {n for found in each for n in found}}


def as_text(params: Mapping[str, str]) -> str:
    """The options among the parameters of a run that has all its settings there."""
    return json.dumps(options(params), separators=(",", ":"))


def attempts(source: Source) -> pd.DataFrame:
    """One row per published run: texts as they are (empty where there are none), metrics as floats; oldest first."""
    columns: dict[str, object] = {"run_id": source.ids, "start_ms": source.starts_ms}
    columns |= {name: _filled(source.param(name)) for name in (*AXES, *SHAPE)}
    columns |= {name: _filled(source.tag(name)) for name in TAGS}
    columns |= _options(source.options())
    frame = pd.DataFrame(columns).astype(dict.fromkeys(["run_id", *TEXT], "str") | {"start_ms": "int64"})
    return in_order(pd.concat([frame, _numbers(source, frame.index)], axis=1))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Attempts from the oldest on, whatever order a source gives them in."""
    if (frame["start_ms"].diff().iloc[1:] > 0).all():  # they are, and no two began together
        return frame.reset_index(drop=True)
    return frame.sort_values(["start_ms", "run_id"], ignore_index=True)


def _filled(texts: Texts) -> list[str]:
    return [text or "" for text in texts]


def _options(texts: Sequence[str]) -> dict[str, list[str]]:
    """ALONE as columns, and as JSON what may tell treatments apart."""
    parsed = {text: json.loads(text) for text in {*texts}}
    telling = {
        text: json.dumps({name: value for name, value in found.items() if may_tell(name)}, sort_keys=True)
        for text, found in parsed.items()
    }
    alone = {
        column: [parsed[text].get(name, default) for text in texts]
        for column, (name, default) in ALONE.items()
    }
    return alone | {"options": [telling[text] for text in texts]}


def _numbers(source: Source, index: "pd.Index[int]") -> pd.DataFrame:
    """A column per metric, by today's name; a series has none."""
    found: dict[str, pd.Series[float]] = {}
    for name, values in source.metrics().items():
        if "/" in name and not name.startswith(SERIES):
            (today,) = renamed({name: 0.0})
            column: pd.Series[float] = pd.Series(np.array(values, dtype=np.float64), index=index)
            found[today] = found[today].fillna(column) if today in found else column
    return pd.DataFrame({name: found[name] for name in sorted(found)}, index=index)
