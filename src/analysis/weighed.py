"""Runs of layers=sensitive: the predicted curve of quality over speedup, and what was measured beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.layer_rules import PRESET
from src.analysis.runs.frame import WORKLOAD, Row, alike, compared, model_level
from src.analysis.runs.layer_tables import from_folders
from src.analysis.runs.tracked.tracker import Tracker

NAME = "sensitive.json"  # in a run's folder
_MOST = 6  # runs that are looked at, the newest
_SAME = [*WORKLOAD, "device", "quant", "compile", "_rest"]
_LAYERS = r"(?:^|, )layers(\.sensitive\.min_sqnr_db)?=[^,]+"  # in a run's variant


@dataclass(frozen=True)
class Point:
    """What is predicted once a kind more is left alone."""

    left: str  # that kind; empty: every layer is quantized
    speedup: float
    sqnr_db: float


@dataclass(frozen=True)
class Weighed:
    """One run of layers=sensitive."""

    row: Row
    points: list[Point]  # the first with every layer, each next one with one kind fewer
    chosen: Point | None  # what is predicted of what was applied
    left: list[str]
    min_sqnr_db: float
    measured: dict[str, Row]  # the preset of conf/layers -> its run; this one among them


def weighed(runs: pd.DataFrame, outputs: Path, tracker: Tracker | None = None) -> list[Weighed]:
    """Of the newest runs that weighed their layers: the curve of each."""
    if "sensitive/kinds_left" not in runs:
        return []
    ran = compared(model_level(runs))
    ran = ran[~ran["withheld"]]
    rest = ran["variant"].str.replace(_LAYERS, "", regex=True)
    ran = ran.assign(_preset=ran["variant"].str.extract(PRESET)[0], _rest=rest)
    own = ran[ran["sensitive/kinds_left"].notna()].sort_values("started_at", ascending=False).head(_MOST)
    files = dict(from_folders(own, NAME, _read, outputs, tracker))
    return [_weighed(row, files[row["run_key"]], ran) for _, row in own.iterrows() if row["run_key"] in files]


def _weighed(row: Row, content: dict[str, Any], ran: pd.DataFrame) -> Weighed:
    base_ms = float(row["latency/baseline_median_ms"])
    points = [_point(each, base_ms) for each in content["curve"]]
    chosen = {"left": "", "sqnr_db": content["predicted_sqnr_db"], "saved_ms": content["predicted_saved_ms"]}
    others = alike(ran[ran["_preset"] != row["_preset"]], row, _SAME)
    measured = {str(each["_preset"]): each for _, each in others.iterrows() if not pd.isna(each["_preset"])}
    return Weighed(
        row,
        [point for point in points if point],
        _point(chosen, base_ms),
        content["left"],
        float(content["min_sqnr_db"]),
        measured | {str(row["_preset"]): row},
    )


def _point(content: dict[str, Any], base_ms: float) -> Point | None:
    """None where there is no finite number: no noise at all, or more time saved than there is."""
    saved_ms, sqnr_db = content["saved_ms"], content["sqnr_db"]
    if sqnr_db is None or saved_ms >= base_ms:
        return None
    return Point(content["left"], base_ms / (base_ms - saved_ms), sqnr_db)


def _read(path: Path | None) -> dict[str, Any]:
    """What a file says; empty where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and "curve" in content else {}


def kinds_text(names: Sequence[str], most: int = 4) -> str:
    """Some of the names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
