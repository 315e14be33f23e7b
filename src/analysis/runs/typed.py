"""Attempts with numbers as numbers, and what their intervals say."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.analysis.runs.tracked.source import BESIDES, SHAPE
from src.records.pooled import ESTIMATE, POOLED_ERROR
from src.records.record import EMULATED, FINDINGS, Outcome
from src.records.settled import ALTERNATING, BLOCKS
from src.statistics.bootstrap import Array
from src.statistics.speedup import verdicts

ASKED = "gpu="  # a device that was asked for, and is not known yet
_INTEGERS = ["batch", "resolution", "frames", "attempt", *SHAPE]
MANNER = ["baseline_dtype", "pairing", "rounds"]  # as `src.records.pooled.manner` has it of a record
METRICS = [  # always columns, empty where no run has them
    *(f"speedup/{part}" for part in ("ratio", "ci_low", "ci_high", "pairs")),
    *(f"speedup/{part}" for part in ("error", "processes", "between_sd", "within_low", "within_high")),
    POOLED_ERROR,
    *("latency/median_ms", "latency/baseline_median_ms"),
    *("memory/model_gib", "memory/baseline_model_gib"),
    *("quality/sqnr_db", "quality/psnr_db", "quality/lpips", "quality/accuracy"),
]


def typed(found: pd.DataFrame) -> pd.DataFrame:
    """Attempts with numbers as numbers, and what a run said of itself under names of its own."""
    frame = found.reset_index(drop=True)
    frame = frame.reindex(columns=[*frame, *(name for name in METRICS if name not in frame)])
    with_recipe = frame["compile"] + BESIDES + frame["recipe"]
    frame["compile"] = frame["compile"].where(frame["recipe"] == "", with_recipe)
    frame["recorded"], frame["told_withheld"] = frame["verdict"], frame["withheld"] == "1"
    for name in (*_INTEGERS, *(f"asked_{name}" for name in SHAPE)):
        frame[name] = _integers(frame[name])
    frame[["attempt", "frames"]] = frame[["attempt", "frames"]].fillna(0)  # no frames: of images
    frame[SHAPE] = _shapes(frame)
    numbers = ["own_margin", "confidence", "drift"]
    frame[numbers] = frame[numbers].astype(float)
    frame["drift"] = frame["drift"].where(frame["pairing"] == "in_turn", 0.0)  # that all processes share
    frame["device_name"] = frame["device"].where(frame["device"] != "", ASKED + frame["gpu"])
    frame["started_at"] = pd.to_datetime(frame["start_ms"], unit="ms", utc=True)
    frame["finding"] = frame["outcome"].isin([*FINDINGS])
    ran_for_quality = frame["recorded"] == EMULATED  # it has no speedup to compare
    frame["outcome"] = frame["outcome"].where(~ran_for_quality, EMULATED)
    older = (frame["baseline_dtype"] == "") & frame[ESTIMATE[0]].notna()  # of before there were others
    frame["baseline_dtype"] = frame["baseline_dtype"].where(~older, frame["dtype"])
    frame["rounds"] = np.where(_of_blocks(frame), BLOCKS, ALTERNATING)
    own = interval_verdicts(frame, frame["own_margin"].to_numpy())
    differs = (own != "") & (frame["recorded"] != "") & (frame["recorded"] != own)
    frame["withheld"] = frame["told_withheld"] | differs  # of before there was the tag
    return frame


def _of_blocks(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a speedup is that of blocks at the power cap: its run tells that of alternating rounds beside it."""
    name = "speedup/alternating_ratio"
    return frame[name].notna() if name in frame else pd.Series(False, frame.index)


def _shapes(frame: pd.DataFrame) -> pd.DataFrame:
    """M, K, N; for a run that ended before it was built, from the dimensions asked for (M times batch)."""
    asked = frame[[f"asked_{name}" for name in SHAPE]].set_axis(SHAPE, axis=1)
    asked = asked.assign(M=asked["M"] * frame["batch"])
    asked = asked.where(asked.notna().all(axis=1))
    return frame[SHAPE].where(frame[SHAPE].notna().all(axis=1), asked)


def _integers(texts: "pd.Series[str]") -> "pd.Series[int]":
    codes, known = pd.factorize(texts)
    numbers = pd.array([_integer(text) for text in known], dtype="Int64")
    return pd.Series(numbers.take(codes) if len(codes) else numbers, index=texts.index)


def _integer(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def interval_verdicts(frame: pd.DataFrame, margin: Array) -> npt.NDArray[np.object_]:
    """The verdicts at a margin; empty unless the run ended well and has an interval."""
    parts = frame[[*ESTIMATE]].to_numpy(dtype=np.float64)
    good = np.isfinite(parts).all(axis=1) & (np.nan_to_num(parts) > 0).all(axis=1)
    good &= (frame["outcome"] == Outcome.OK).to_numpy(dtype=bool)
    return np.where(good, verdicts(parts[:, 1], parts[:, 2], margin), "").astype(object)


def in_few_blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with texts as Python's: rows are looked at one by one later, which is 20 times slower otherwise."""
    texts: dict[str, pd.Series[Any]] = {}
    for name in map(str, frame.select_dtypes("str")):
        codes, known = pd.factorize(frame[name])
        shared = np.append(known.to_numpy(dtype=object), None)[codes]
        texts[name] = pd.Series(shared, frame.index, dtype=object)
    return frame.assign(**texts).copy()
