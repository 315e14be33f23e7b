"""Cells: one Linear layer, one scheme, one device, its speedup; of own runs and of imports, never under one name."""

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from src.analysis.runs.frame import compared, layer_level
from src.analysis.runs.tracked.variants import WARM
from src.records.pooled import POOLED_ERROR
from src.statistics.errors import errors

SHAPE = ["M", "K", "N"]
PLACE = ["device", "compile", "dtype"]  # what a model of costs is fitted within
COLUMNS = [*PLACE, *SHAPE, "quant", "speedup", "low", "high", "error", "baseline_ms", "treated_ms", "source"]
OWN = ""  # source of a cell that was measured here; an import's is its file's name
PUBLISHED_WEIGHT = 0.5  # of a cell from elsewhere, a single sample, against an own run's 1
_NARROW = 0.05  # standard error of log speedup that halves a cell's weight
_CONTROL = "none"
_CPUS = Path(__file__).with_name("cpus.yaml")
_TIMES = ["baseline_ms", "treated_ms"]
_NUMBERS = ["speedup", "low", "high", "error", *_TIMES]
_OF_RUNS = {
    "speedup/ratio": "speedup",
    "speedup/ci_low": "low",
    "speedup/ci_high": "high",
    POOLED_ERROR: "error",
    "latency/baseline_median_ms": "baseline_ms",
    "latency/median_ms": "treated_ms",
}


def cells(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """A frame of cells; numbers that a row lacks are empty."""
    frame = pd.DataFrame(list(rows), columns=COLUMNS)
    return frame.astype(dict.fromkeys(SHAPE, "int64") | dict.fromkeys(_NUMBERS, "float64"))


def own_cells(runs: pd.DataFrame, layers: pd.DataFrame | None = None) -> pd.DataFrame:
    """The cells of standing runs, the newest last: single layers that were compared, their verdict not withheld.

    A scheme's options are part of its name (`int4wo (group_size=64)`): they are other kernels.

    Args:
        runs: of all kinds.
        layers: those of them that count; those of inference, where not given.
    """
    if runs.empty:
        return cells([])
    ran = compared(layer_level(runs) if layers is None else layers).rename(columns=_OF_RUNS)
    telling = (ran["quant"] != _CONTROL) & ~ran["withheld"]
    names = {*COLUMNS, "variant", "started_at"} - {"source"}
    ran = ran[[name for name in ran if name in names]][telling].sort_values("started_at")
    parts = zip(ran["quant"], ran["variant"], strict=True)
    named = [f"{quant} ({variant})" if variant else quant for quant, variant in parts]
    frame = ran.assign(quant=named, source=OWN)
    frame.loc[_warm_beside_cold(frame), _TIMES] = math.nan
    kinds = dict.fromkeys(SHAPE, "int64") | dict.fromkeys(_NUMBERS, "float64")
    return frame[COLUMNS].astype(kinds).reset_index(drop=True)


def _warm_beside_cold(frame: pd.DataFrame) -> "pd.Series[bool]":
    """The cells of warm caches where there are others: the unquantized times of a place are of one kind."""
    warm = frame["variant"].str.contains(WARM, regex=False)
    return warm & ~warm.groupby([frame[name] for name in PLACE]).transform("all")


def together(own: pd.DataFrame, published: pd.DataFrame, devices: Iterable[str] = ()) -> pd.DataFrame:
    """All cells. A published device's name is the own one's where it is the beginning of one alone.

    `NVIDIA H200` is `NVIDIA H200 (140 GiB, 700 W)`, if runs know one such card; `devices` are more that they know.
    """
    known = list(dict.fromkeys([*own["device"], *devices]))
    found = {
        name: [each for each in known if each.startswith(f"{name} (")] for name in set(published["device"])
    }
    same = {name: each[0] for name, each in found.items() if len(each) == 1 and name not in known}
    parts = [own, published.assign(device=published["device"].replace(same))]
    return pd.concat([part for part in parts if len(part)] or [published], ignore_index=True)


def evenly(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many cells, at least half, as many of each place and scheme: which ones hangs on their shapes."""
    if len(frame) <= most:
        return frame
    order = pd.util.hash_pandas_object(frame[SHAPE], index=False).sort_values(kind="stable").index
    groups = [*PLACE, "quant"]
    share = max(1, most // frame[groups].drop_duplicates().shape[0])
    each = 2 ** (share.bit_length() - 1)  # a new scheme does not change how many there are of the others
    chosen = frame.loc[order].groupby(groups, sort=False).head(each).index
    return frame.loc[chosen.sort_values()].head(most).reset_index(drop=True)


def weights(frame: pd.DataFrame) -> "pd.Series[float]":
    """What a cell counts: own runs 1, published ones less, and less the larger its standard error is."""
    told = (frame["source"] == OWN).map({True: 1.0, False: PUBLISHED_WEIGHT})
    found: pd.Series[float] = told / (1 + (np.nan_to_num(standard_errors(frame)) / _NARROW) ** 2)
    return found


def standard_errors(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Of log speedups: of the record, else from the interval; not a number where a cell has neither."""
    low, high, recorded = (frame[name].to_numpy(dtype=np.float64) for name in ("low", "high", "error"))
    return errors(np.log(low), np.log(high), recorded).error


def prints(frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A number per cell that tells it from another one, or from itself measured again.

    Of how sure it is only a change by more than a fifth or so: each new run of several processes changes the
    intervals of all of its device a little.
    """
    with np.errstate(divide="ignore"):
        sure = np.round(2 * np.log2(standard_errors(frame)))
    told = frame[[*PLACE, *SHAPE, "quant", "speedup", "baseline_ms", "treated_ms", "source"]]
    return pd.util.hash_pandas_object(told.assign(sure=sure), index=False).to_numpy().astype(np.uint64)


@cache
def is_cpu(device: str) -> bool:
    """Whether a device's name is a CPU's: its costs say nothing of a GPU's.

    One that was measured here ends in its threads (`AMD EPYC, 2 threads [cache_mib=16]`); any other is known by its
    words (`cpus.yaml`): of a CPU and its GPU the first that is named.
    """
    if device.partition(" [")[0].rstrip().endswith(("thread", "threads")):
        return True
    cpu, other = (_first(words, device) for words in _words())
    return cpu < other


def _first(words: re.Pattern[str], name: str) -> float:
    """Where in a name one of the words begins; infinite where none is in it."""
    found = words.search(name)
    return found.start() if found else math.inf


@cache
def _words() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What tells a CPU's name, and an accelerator's."""
    listed: dict[str, list[str]] = yaml.safe_load(_CPUS.read_text(encoding="utf-8"))
    cpus, others = (
        re.compile("|".join(rf"\b(?:{word})" for word in listed[kind]), re.IGNORECASE)
        for kind in ("cpus", "accelerators")
    )
    return cpus, others
