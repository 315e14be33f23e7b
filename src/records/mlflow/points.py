"""Every number of a record as MLflow's metrics: single ones, and series with a step."""

import json
import math
from pathlib import Path

from src.records.mlflow.content import processes
from src.records.record import EMULATED, Record

Point = tuple[str, float, int]  # metric, value, step

MAX_POINTS = 200  # of a series
_PERCENTILES = range(0, 101, 5)
LOSSES_NAME = "losses.json"  # in the folder of a training: the loss of each step

_RATIO, _SMALL, _PLAIN = "speedup/ratio", "memory/model_gib", "memory/baseline_model_gib"
_NAMES = {  # shown first, in this order: metric of the record
    "speedup": _RATIO,
    "low": "speedup/ci_low",
    "high": "speedup/ci_high",
    "pairs": "speedup/pairs",
    "ms": "latency/median_ms",
    "sqnr_db": "quality/sqnr_db",
}


def points(record: Record, folder: Path) -> list[Point]:
    """Every metric of a run: single numbers at step 0, series from ``rounds.json``, of a training ``losses.json``.

    Raises:
        ValueError: one of them cannot be read.
    """
    path = folder / "rounds.json"
    first = _shown(record)  # what comes first, run pages and parallel coordinates open with
    found = [(name, float(value), 0) for name, value in (first | record.metrics).items()]
    found += _losses(folder / LOSSES_NAME)
    if "processes" in record.details:
        each = enumerate(processes(record), 1)
        found += [("rounds/speedup_of_process", own[0], step) for step, own in each if own]
    if not path.exists() or record.verdict == EMULATED:
        return found
    try:
        rounds = json.loads(path.read_text(encoding="utf-8"))
        arms = {arm: [float(ms) for ms in rounds[f"{arm}_ms"]] for arm in ("baseline", "treated")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not readable rounds ({error!r})") from error
    for arm, times in arms.items():
        found += _series(f"rounds/{arm}_ms", times)
        found += _distribution(f"distribution/{arm}_ms", times)
    pairs = zip(arms["baseline"], arms["treated"], strict=False)
    return found + _series("rounds/speedup", [base / treated for base, treated in pairs])


def _shown(record: Record) -> dict[str, float]:
    """What a person compares runs by, in few plain names and four digits: speedup, interval, pairs, ms per call, ...

    SQNR is in dB, the weights' memory saved and the time gained in percent.
    ``faster_percent`` is 0 where the speedup is 1: bars of it part there to the faster and the slower.
    """
    metrics = record.metrics
    found = {name: metrics[metric] for name, metric in _NAMES.items() if metric in metrics}
    if metrics.get(_PLAIN) and _SMALL in metrics:
        found["saved_percent"] = 100 * (1 - metrics[_SMALL] / metrics[_PLAIN])
    if _RATIO in metrics:
        found["faster_percent"] = 100 * (metrics[_RATIO] - 1)
    return {name: float(f"{value:.4g}") for name, value in found.items() if math.isfinite(value)}


def _losses(path: Path) -> list[Point]:
    """The loss of a training's steps; none where nothing was trained."""
    if not path.exists():
        return []
    try:
        curves = json.loads(path.read_text())
        found = _series("training/loss_of_step", [float(loss) for loss in curves["loss"]])
        baseline = [float(loss) for loss in curves.get("baseline_loss", [])]
        return found + _series("training/baseline_loss_of_step", baseline)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not readable losses ({error!r})") from error


def _series(name: str, values: list[float]) -> list[Point]:
    """At most MAX_POINTS of the values, evenly spaced; their place is the step."""
    stride = max(1, -(-len(values) // MAX_POINTS))
    return [(name, value, i) for i, value in enumerate(values) if i % stride == 0]


def _distribution(name: str, values: list[float]) -> list[Point]:
    """The percentiles 0, 5, ..., 100, each at itself as step."""
    import numpy as np

    if not values:
        return []
    found = np.percentile(values, list(_PERCENTILES))
    return [(name, float(value), p) for value, p in zip(found, _PERCENTILES, strict=True)]
