"""From MLflow runs to a tidy frame: one row per run key."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from src.analysis.attempts import confidence, one_per_key, pool_rows
from src.analysis.devices import told_apart
from src.analysis.variants import variants
from src.config.schema import MeasureConf
from src.records.record import EMULATED, FINDINGS, Outcome, renamed
from src.statistics.speedup import SpeedupEstimate, Verdict, verdict

if TYPE_CHECKING:
    from mlflow.entities import Run

    Row: TypeAlias = pd.Series[Any]
else:
    Row = pd.Series  # one run, as frame.iterrows() gives it

WORKLOAD = ["model", "target", "batch", "resolution", "frames", "dtype"]
TREATMENT = ["quant", "compile", "variant"]
SHAPE = ["M", "K", "N"]
CELL = [*WORKLOAD, *SHAPE, *TREATMENT, "device", "task"]  # what makes two runs measurements of the same thing
MODES_OF = [*WORKLOAD, *SHAPE, "device", "task"]  # what compile modes are compared within
_AXES = ["model", "quant", "compile", "batch", "gpu", "resolution", "frames", "target", "dtype", "task"]
_TAGS = ["run_key", "sweep", "sweeps", "outcome", "reason", "remedy"]
_INTEGERS = ["batch", "resolution", "frames", "attempt", *SHAPE]
_METRICS = [  # always columns, empty where no run has them
    *(f"speedup/{part}" for part in ("ratio", "ci_low", "ci_high", "pairs")),
    *(f"speedup/{part}" for part in ("processes", "between_sd", "within_low", "within_high")),
    *("latency/median_ms", "latency/baseline_median_ms"),
    *("memory/model_gib", "memory/baseline_model_gib"),
    *("quality/sqnr_db", "quality/psnr_db", "quality/lpips"),
]
_SERIES = ("rounds/", "distribution/")  # MLflow gives their last points
_ASKED = "gpu="


def tidy(runs: "Iterable[Run]", margin: float) -> pd.DataFrame:
    """One row per run key: axes, shape, device, outcome, verdict at the margin, reason, and all metrics.

    Runs of tasks that compare no speed (``task.compares=false``: serialize) are left out.
    The newest attempt with a finding stands for a key, with the speedup pooled from all that measured one, and
    ``interval`` says what its interval contains. ``variant`` names the options by which runs with the
    same axes differ (``group_size=64``); ``stands`` is False for a run that a newer one of the same workload,
    treatment and device replaces (other versions, seed or measurement settings).
    """
    rows = one_per_key(_row(run) for run in runs if run.data.params.get("task.compares") != "false")
    called = told_apart((row["device_name"], row["device_identity"]) for row in rows)
    for row in rows:
        row["device"] = called[row["device_name"], row["device_identity"]]
    pool_rows(rows)
    for row, variant in zip(rows, variants(rows, [name for name in CELL if name != "variant"]), strict=True):
        row["variant"] = variant
        row["verdict"] = _verdict(row, margin)
        row["withheld"] = bool(row["verdict"]) and row["withheld"]
    columns = [
        *_TAGS,
        "attempt",
        *CELL,
        "gpu",
        "device_name",
        "device_identity",
        "baseline_dtype",
        "weights",
        "verdict",
        "withheld",
        "finding",
        "interval",
        "started_at",
        "run_id",
        *_METRICS,
    ]
    frame = pd.DataFrame(rows, columns=[*columns, *_other_metrics(rows)])
    frame[_INTEGERS] = frame[_INTEGERS].astype("Int64")
    frame[_METRICS] = frame[_METRICS].astype(float)
    frame["memory/saved"] = 1 - frame["memory/model_gib"] / frame["memory/baseline_model_gib"]
    frame["confidence"] = [confidence(row) for row in rows]
    frame["stands"] = ~_newest_first(frame).duplicated(CELL)
    frame = frame.join(_against_fastest_mode(frame))
    return frame.sort_values([*CELL, "started_at"], na_position="first").reset_index(drop=True)


def of_sweep(frame: pd.DataFrame, sweep: str, keys: set[str]) -> pd.DataFrame:
    """The rows of a sweep: those it measured, and those it skipped as measured before."""
    listed = frame["sweeps"].str.split().map(lambda names: sweep in names)
    return frame[listed | (frame["sweep"] == sweep) | frame["run_key"].isin(keys)].reset_index(drop=True)


def standing(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that tables and figures show: the newest of each workload, treatment and device."""
    return frame[frame["stands"]].reset_index(drop=True)


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a speedup with an interval."""
    return frame[frame["verdict"] != ""].reset_index(drop=True)


def devices(frame: pd.DataFrame) -> list[str]:
    """The devices that runs opened, in order; a run that opened none stands under what it asked for."""
    return [name for name in dict.fromkeys(frame["device"]) if not name.startswith(_ASKED)]


def model_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of blocks and whole models: those that are not one Linear."""
    return frame[frame["M"].isna()].reset_index(drop=True)


def layer_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of one Linear, of M x K x N."""
    return frame[frame["M"].notna()].reset_index(drop=True)


def _row(run: "Run") -> dict[str, Any]:
    params, tags = run.data.params, run.data.tags
    row: dict[str, Any] = {name: params.get(name, "") for name in _AXES}
    row |= {name: tags.get(name, "") for name in _TAGS}
    row["recorded"], row["told_withheld"] = tags.get("verdict", ""), tags.get("withheld") == "1"
    row |= {name: _integer(params.get(name)) for name in ("batch", "resolution")}
    row["frames"] = _integer(params.get("frames")) or 0  # of images
    row |= _shape(params) | renamed(run.data.metrics)
    row["device_name"] = tags.get("device") or f"{_ASKED}{row['gpu']}"
    row["device_identity"] = tags.get("device_identity", "")
    row["baseline_dtype"] = tags.get("baseline_dtype", "")
    row["weights"] = params.get("model.weights.source", "")
    row["attempt"] = _integer(tags.get("attempt")) or 0
    row["finding"] = row["outcome"] in FINDINGS
    if row["recorded"] == EMULATED:
        row["outcome"] = EMULATED  # it ran, for its quality; it has no speedup to compare
    row["started_at"] = datetime.fromtimestamp(run.info.start_time / 1e3, tz=UTC)
    row |= {"run_id": run.info.run_id, "params": params, "processes": tags.get("processes", "")}
    return row | {"withheld": _is_withheld(row)}


def _shape(params: dict[str, str]) -> dict[str, int | None]:
    """M, K, N; for a run that ended before it was built, from the dimensions asked for (M times batch)."""
    shape = {name: _integer(params.get(name)) for name in SHAPE}
    if None in shape.values():
        shape = {name: _integer(params.get(f"model.dims.{name}")) for name in SHAPE}
        batch, rows = _integer(params.get("batch")), shape["M"]
        shape["M"] = None if rows is None or batch is None else rows * batch
    return shape if None not in shape.values() else dict.fromkeys(SHAPE)


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _verdict(row: dict[str, Any], margin: float) -> str:
    """The verdict at the analysis' margin; empty unless the run ended well and has an interval.

    A run that withheld its verdict (the machine was busy) is not given one here.
    """
    found = _interval_verdict(row, margin)
    return str(row["recorded"]) if found and row["withheld"] else found


def _is_withheld(row: dict[str, Any]) -> bool:
    """Whether the run says so; one published without that tag did where its verdict is not its interval's."""
    own = _interval_verdict(row, float(row["params"].get("measure.margin", MeasureConf.margin)))
    return row["told_withheld"] or bool(own and row["recorded"] and own != row["recorded"])


def _interval_verdict(row: dict[str, Any], margin: float) -> str:
    parts = [float(row.get(f"speedup/{part}", math.nan)) for part in ("ratio", "ci_low", "ci_high")]
    if row["outcome"] != Outcome.OK or not all(math.isfinite(part) and part > 0 for part in parts):
        return ""
    pairs = int(row.get("speedup/pairs", 0))
    return str(verdict(SpeedupEstimate(parts[0], parts[1], parts[2], pairs, block_length=1), margin))


def _other_metrics(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = {name for row in rows for name in row if "/" in name and not name.startswith(_SERIES)}
    return sorted(names - set(_METRICS))


def _against_fastest_mode(frame: pd.DataFrame) -> pd.DataFrame:
    """Where a workload stands in several compile modes: its fastest one unquantized, and the speedup against that.

    The baseline of another run, so of another process: there is no interval.
    """
    fastest: dict[Any, tuple[str, float]] = {}
    for _, rows in frame[frame["stands"] & (frame["verdict"] != "")].groupby(MODES_OF, dropna=False):
        modes = rows.groupby("compile")["latency/baseline_median_ms"].median()
        if len(modes) > 1:
            best_ms = modes.min() / rows["latency/median_ms"]
            fastest |= {index: (str(modes.idxmin()), float(value)) for index, value in best_ms.items()}
    found = [fastest.get(index, (None, math.nan)) for index in frame.index]
    return pd.DataFrame(found, index=frame.index, columns=["fastest_mode", "speedup/fastest_mode"])


def _newest_first(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["finding", "started_at"], ascending=False)


VERDICTS = tuple(str(v) for v in Verdict)
