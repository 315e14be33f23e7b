"""From the attempts at a run key to one row: what all of them measured, pooled, and what its interval contains."""

import json
import math
from collections.abc import Hashable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.analysis.runs.typed import MANNER
from src.records.pooled import ERROR, ESTIMATE, PAIRS, POOLED_ERROR
from src.records.record import Outcome
from src.statistics.bootstrap import Array
from src.statistics.pooling import Between, Pooled, between_others, in_words, pool, widened
from src.statistics.process import Process, least_error

Mask = npt.NDArray[np.bool_]
Each = list[Process]
_FEW = 50  # of so many runs, each is left out of what the others tell it
_NOTHING, _ALONE = "", "alone"  # of column `kind`: no speedup, that of one process; else several
_SEVERAL = "several"
_DAMAGED = "what its processes measured cannot be read: its tag `processes` is damaged or was cut off"
_BESIDE = "\x1f"
_WITHIN = ["speedup/within_low", "speedup/within_high"]


def one_per_key(frame: pd.DataFrame) -> pd.DataFrame:
    """Of doubled runs of a sweep's attempt the first; of a key's attempts on a device one row, with all processes.

    The newest attempt with a finding gives the row. Where it measured a speedup, ``each`` holds the processes of all
    attempts that did so in the same manner (MANNER: the baseline's dtype, the pairing), if they are several; attempts
    whose verdict was withheld only where there are no others. The pairs are those of all attempts that count, and
    ``speedup/error`` is known of each that measured something (``speedup/pooled_error`` where it was recorded).

    Args:
        frame: attempts from the oldest on, with `finding`, `withheld`, `outcome` and `confidence`.
    """
    frame = _with_processes(frame.drop_duplicates(["run_key", "sweep", "attempt"]))
    frame = frame.sort_values(["usable", "finding", "start_ms"], kind="stable").reset_index(drop=True)
    frame[POOLED_ERROR] = frame[POOLED_ERROR].fillna(frame[ERROR])  # as recorded
    frame[ERROR] = _errors(frame)
    told, measured = processes(frame)
    keys = _keys(frame)
    place = np.arange(len(frame))
    newest = _last(keys, place >= 0)
    measured &= measured[newest[keys]]
    clean = measured & ~frame["withheld"].to_numpy(dtype=bool)
    only_withheld = ~np.isin(keys, keys[clean])
    counted = clean | (measured & only_withheld & (place == _last(keys, measured)[keys]))
    chosen = newest.copy()
    chosen[keys[counted]] = place[counted]
    counted &= _in_the_manner_of(frame, chosen[keys])
    several = _together(keys, counted, told, frame)
    rows = frame.iloc[chosen].reset_index(drop=True)
    rows["each"] = pd.Series([several.get(key) for key in range(len(rows))], dtype=object)
    alone = np.isin(np.arange(len(rows)), keys[counted])
    rows["kind"] = np.where(rows["each"].notna(), _SEVERAL, np.where(alone, _ALONE, _NOTHING))
    pairs = np.bincount(keys[counted], frame[PAIRS].to_numpy(dtype=np.float64)[counted], len(rows))
    rows[PAIRS] = rows[PAIRS].where(rows["kind"] != _SEVERAL, pairs)
    return rows


def _keys(frame: pd.DataFrame) -> npt.NDArray[np.intp]:
    """A number per run key and device: what was only asked of a cluster may have run on two that differ.

    An attempt that ended before its device was known is one on the newest that is known.
    """
    known = frame["device"] != ""
    device = frame["device"] + _BESIDE + frame["device_identity"]
    newest = device[known].groupby(frame["run_key"][known], sort=False).last()
    device = device.where(known, frame["run_key"].map(newest).fillna(""))
    return pd.factorize(frame["run_key"] + _BESIDE + device)[0]


def _in_the_manner_of(frame: pd.DataFrame, others: npt.NDArray[np.intp]) -> Mask:
    """Whether each attempt was measured as the one in another place was, as far as both say how (`manner`)."""
    alike = np.ones(len(frame), dtype=bool)
    for name in MANNER:
        own = frame[name].to_numpy(dtype=object)
        alike &= (own == own[others]) | (own == "") | (own[others] == "")
    return alike


def _errors(frame: pd.DataFrame) -> Array:
    """Of log(speedup) in each attempt: as recorded, else the least that may have given its interval."""
    low, high, pairs, confidence, error = (
        frame[name].to_numpy(dtype=np.float64) for name in (*ESTIMATE[1:], PAIRS, "confidence", ERROR)
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # of runs without a speedup
        return np.where(np.isfinite(error), error, least_error(low, high, pairs, confidence))


def _with_processes(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with what each process measured read from its tag, as ``told``; `usable` unless that is damaged.

    What an attempt with a damaged tag measured counts for nothing, and its reason says so: how far its processes lie
    apart is not known.
    """
    told = [_read(text) if text else [] for text in frame["processes"].tolist()]
    usable = np.array([each is not None for each in told], dtype=bool)
    frame = frame.assign(told=pd.Series(told, frame.index, dtype=object), usable=usable)
    if not usable.all():
        frame.loc[~usable, [*ESTIMATE]] = math.nan
        frame.loc[~usable, "reason"] = _DAMAGED
    return frame


def _read(text: str) -> list[list[float]] | None:
    """The estimates in a tag; None: it is damaged."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if not isinstance(told, list):
        return None
    return told if len(told) == 1 or all(map(_is_estimate, told)) else None  # of one the metrics say the same


def processes(frame: pd.DataFrame) -> tuple[dict[int, Each], Mask]:
    """By place, what each process of an attempt of several measured; and which attempts measured anything."""
    own = frame[[*ESTIMATE]].to_numpy(dtype=np.float64)
    good = (frame["outcome"] == Outcome.OK).to_numpy(dtype=bool) & np.isfinite(own).all(axis=1)
    good &= (np.nan_to_num(own) > 0).all(axis=1)
    found = {place: told for place, told in enumerate(frame["told"]) if good[place] and len(told or ()) > 1}
    return _with_errors(found, frame), good


def _is_estimate(told: object) -> bool:
    """Whether these are a speedup, its interval and perhaps its error."""
    if not isinstance(told, list) or len(told) not in (3, 4) or not {*map(type, told)} <= {int, float}:
        return False
    return all(map(math.isfinite, told)) and min(told[:3]) > 0


def _with_errors(found: dict[int, list[list[float]]], frame: pd.DataFrame) -> dict[int, Each]:
    """The processes of each place as `Process.of` makes them one by one, which takes ten times as long."""
    every = np.array([[*each[:3], *(each[3:] or [math.nan])] for told in found.values() for each in told])
    places = np.array([place for place, told in found.items() for _ in told], dtype=np.intp)
    speedup, low, high, error = every.reshape(-1, 4).T
    pairs, confidence, drift = (
        frame[name].to_numpy(dtype=np.float64)[places] for name in (PAIRS, "confidence", "drift")
    )
    pairs = pairs / np.bincount(places, minlength=1)[places]
    error = np.where(np.isfinite(error), error, least_error(low, high, pairs, confidence))
    each = (
        Process(*one) for one in zip(*(x.tolist() for x in (speedup, low, high, error, drift)), strict=True)
    )
    return {place: [*islice(each, len(told))] for place, told in found.items()}


def _last(keys: npt.NDArray[np.intp], of: Mask) -> npt.NDArray[np.intp]:
    """The last place of each key among some; of keys without any there, -1."""
    found = np.full(int(keys.max(initial=-1)) + 1, -1, dtype=np.intp)
    np.maximum.at(found, keys[of], np.flatnonzero(of))
    return found


def _together(
    keys: npt.NDArray[np.intp], counted: Mask, told: dict[int, Each], frame: pd.DataFrame
) -> dict[int, Each]:
    """By key the processes of all attempts that count, of keys where these are several."""
    times = np.bincount(keys[counted], minlength=int(keys.max(initial=-1)) + 1)
    many = counted & ((times[keys] > 1) | np.isin(np.arange(len(keys)), [*told]))
    own = frame[[*ESTIMATE, ERROR, "drift"]].to_numpy(dtype=np.float64)
    found: dict[int, Each] = {}
    for place in np.flatnonzero(many).tolist():
        found.setdefault(int(keys[place]), []).extend(told.get(place) or [Process(*own[place].tolist())])
    return found


def pool_rows(frame: pd.DataFrame) -> None:
    """Put the pooled speedup and its interval into each row that has processes, and what the interval contains.

    How far processes lie apart comes from a run's own, and from all runs of its device that have several.
    ``speedup/pooled_error`` is the standard error that the interval then is made of; empty: it is not known.
    """
    frame["interval"] = ""
    for name, end in zip(_WITHIN, ESTIMATE[1:], strict=True):
        frame[name] = frame[name].fillna(frame[end].where(frame["kind"] != _NOTHING))
    needed = ["device", "kind", "withheld", "each", "confidence", *ESTIMATE, ERROR]
    for _, rows in frame.loc[frame["kind"] != _NOTHING, needed].groupby("device", sort=False):
        many = rows[rows["kind"] == _SEVERAL]
        others = many[~many["withheld"]]
        everything = _told_by(others, None)
        _pool_alone(frame, rows[rows["kind"] == _ALONE], everything)
        apart = len(others) <= _FEW
        told = [_told_by(others, index) if apart else everything for index in many.index]
        _put(frame, many.index, [*map(pool, many["each"], many["confidence"], told)])


def _told_by(several: pd.DataFrame, index: Hashable) -> Between | None:
    """What the runs of several processes say of a device to one of its runs (None: to any other)."""
    others = several[several.index != index] if index is not None else several
    return between_others([*others["each"]])


def _pool_alone(frame: pd.DataFrame, rows: pd.DataFrame, prior: Between | None) -> None:
    """Single processes, all at once: most of very many runs are that."""
    index = rows.index
    frame.loc[index, "interval"] = in_words(1, None)
    frame.loc[index, "speedup/processes"] = 1.0
    frame.loc[index, "speedup/between_sd"] = math.nan
    if prior is not None:
        each = rows[[*ESTIMATE, ERROR, "confidence"]].to_numpy(dtype=np.float64).T
        low, high, told = widened(prior, *each)
        frame.loc[index, ESTIMATE[1]], frame.loc[index, ESTIMATE[2]] = low, high
        frame.loc[index[told], "interval"] = in_words(1, prior)
        frame.loc[index[told], POOLED_ERROR] = np.hypot(each[3], prior.sd)[told]


def _put(frame: pd.DataFrame, index: "pd.Index[int]", found: Sequence[Pooled]) -> None:
    columns = {
        **dict(zip(ESTIMATE, ("speedup", "ci_low", "ci_high"), strict=True)),
        "speedup/processes": "processes",
        "speedup/between_sd": "between_sd",
        POOLED_ERROR: "error",
    }
    for name, field in columns.items():
        frame.loc[index, name] = np.array([getattr(each, field) for each in found], dtype=np.float64)
    frame.loc[index, ERROR] = math.nan  # each process has its own
    frame.loc[index, "interval"] = np.array([each.interval for each in found], dtype=object)
