"""What to use: of each workload the fastest treatment, the smallest, and the fastest that keeps the quality."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from src.analysis.across import ends
from src.analysis.runs.frame import (
    BASELINE,
    CACHED,
    MODEL,
    WEIGHTS,
    WORKLOAD,
    Row,
    alike,
    compared,
    model_level,
)
from src.analysis.verdicts import decibels, interval_text, speedup_text, treatment_text
from src.config.schema.model import PIPELINE
from src.statistics.speedup import Verdict

GOOD_SQNR_DB = 30.0  # the quality that the third answer asks for
GOOD_SQNR = f"SQNR ≥ {GOOD_SQNR_DB:.0f} dB"
_MOST = 24  # answers
_CONTROL = "none"
_QUANT = r"(?<![\w.])quant(?![\w.])"  # in a treatment: `quant, recipe.fused_qkv`, or such a list as JSON
_ADDS_CACHE = r"(?<![\w.])recipe\.cache(?!\w)"
_AS_SMALL = 1.01  # memory within 1 % of the least counts as equal
_LAST = {PIPELINE: 0, "denoiser": 1}  # whole images first, then the denoiser, then its parts


class Goal(StrEnum):
    """What somebody may want."""

    FASTEST = "fastest"
    SMALLEST = "smallest"
    GOOD = f"fastest with {GOOD_SQNR}"


@dataclass(frozen=True)
class Pick:
    """The answer for some goals: a treatment, or none, and why none."""

    goals: tuple[Goal, ...]
    row: Row | None  # None: leave it unquantized
    why: str = ""
    rivals: list[Row] = field(default_factory=list)  # that it cannot be told apart from, best first
    nearest: Row | None = None  # where there is none: what came closest


@dataclass(frozen=True)
class Answer:
    """The picks for one workload on one device."""

    first: Row  # any run of the workload, for its names
    runs: int  # treatments that were compared
    picks: list[Pick]
    besides: list[Row] = field(default_factory=list)  # quantized and treated otherwise too, fastest first


def answers(runs: pd.DataFrame, others: pd.DataFrame | None = None) -> tuple[list[Answer], int]:
    """One answer per device and workload that was compared with anything; whole images before parts of models.

    Models of one name that differ in an option are different workloads, and so is one with a step cache, which
    changes the image.

    Args:
        runs: standing rows.
        others: those with another treatment than quantizing alone; what quantizes too is told beside an answer.

    Returns:
        The answers, and how many more there would be: of very many workloads the first are answered.
    """
    ran = model_level(compared(runs))
    ran = ran[(ran["quant"] != _CONTROL) & ~ran["withheld"]]
    group = ran.groupby(["device", *WORKLOAD, MODEL, CACHED], dropna=False).ngroup()
    new = ~group.duplicated()
    firsts = [(row, n) for (_, row), n in zip(ran[new].iterrows(), group[new].tolist(), strict=True)]
    firsts.sort(key=lambda first: (str(first[0]["device"]), _order(first[0])))
    found = [_answer(ran[group == number]) for _, number in firsts[:_MOST]]
    told = [replace(each, besides=_besides(each.first, others)) for each in found]
    return told, max(0, len(firsts) - _MOST)


def _besides(first: Row, others: pd.DataFrame | None) -> list[Row]:
    """Of the same device, model and workload, those that quantize among other things.

    With the step cache of both arms, unless they add one.
    """
    if others is None or others.empty:
        return []
    told = model_level(compared(others))
    told = told[(told["quant"] != _CONTROL) & told["treatment"].str.contains(_QUANT) & ~told["withheld"]]
    told = alike(told, first, ["device", *WORKLOAD, MODEL])
    told = told[(told[CACHED] == first[CACHED]) | told["treatment"].str.contains(_ADDS_CACHE)]
    return [row for _, row in told.sort_values("speedup/ratio", ascending=False).iterrows()]


def _order(row: Row) -> tuple[int, str, float, float]:
    return _LAST.get(str(row["target"]), 2), str(row["model"]), _size(row["resolution"]), _size(row["batch"])


def _size(value: Any) -> float:
    return 0.0 if pd.isna(value) else float(value)


def _answer(rows: pd.DataFrame) -> Answer:
    rows = with_times(rows)
    first = rows.iloc[0]
    picks = [_fastest(rows), _smallest(rows)]
    if first["target"] != PIPELINE:  # in a picture's SQNR its mean brightness counts as signal
        picks.append(_good(rows))
    return Answer(first, len(rows), _merged(picks))


def with_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what a treatment takes on one scale for all baselines, ms: ``scale/ms``, and its interval's ends.

    Runs measure their baselines anew, and these differ a little: the scale is the median unquantized time of those
    with the same in both arms (compile mode and its options, dtype of the baseline), divided by the speedup, which is
    paired. The ends hold what processes differ by: treatments were measured in different ones.
    """
    low, high = ends(rows)
    unquantized_ms = rows.groupby(BASELINE)["latency/baseline_median_ms"].transform("median")
    return rows.assign(
        **{
            "scale/baseline_ms": unquantized_ms,
            "scale/ms": unquantized_ms / rows["speedup/ratio"],
            "scale/low_ms": unquantized_ms / high,
            "scale/high_ms": unquantized_ms / low,
        }
    )


def _fastest(rows: pd.DataFrame) -> Pick:
    pays = _that_pay(rows)
    if pays.empty:
        return Pick((Goal.FASTEST,), None, _none_helps(rows, rows), nearest=_best(rows))
    best = pays.iloc[int(pays["scale/ms"].argmin())]
    return Pick((Goal.FASTEST,), best, rivals=_rivals(best, rows))


def _smallest(rows: pd.DataFrame) -> Pick:
    smaller = rows[rows["memory/model_gib"] < rows["memory/baseline_model_gib"]]
    if smaller.empty:
        told = "no treatment was measured to take less memory"
        return Pick((Goal.SMALLEST,), None, told)
    least = smaller["memory/model_gib"].min()
    as_small = smaller[smaller["memory/model_gib"] <= _AS_SMALL * least].sort_values("scale/ms")
    best, others = as_small.iloc[0], as_small.iloc[1:]
    return Pick((Goal.SMALLEST,), best, rivals=[row for _, row in others.iterrows()])


def _good(rows: pd.DataFrame) -> Pick:
    good = rows[_keeps_quality(rows)]
    pays = _that_pay(rows)
    kept = pays[_keeps_quality(pays)]
    if len(kept):
        best = kept.iloc[int(kept["scale/ms"].argmin())]
        return Pick((Goal.GOOD,), best, rivals=_rivals(best, good))
    if len(pays):
        many = (
            f"none of the {len(pays)} that help keeps"
            if len(pays) > 1
            else "the one that helps does not keep"
        )
        return Pick((Goal.GOOD,), None, f"{many} it{_nearest(pays)}")
    if good.empty:
        return Pick((Goal.GOOD,), None, "no treatment keeps it")
    return Pick((Goal.GOOD,), None, _none_helps(good, rows), nearest=_best(good))


def _nearest(pays: pd.DataFrame) -> str:
    """Which comes closest to the quality; none is called so where their weights are not the same."""
    known = pays[pays["quality/sqnr_db"].notna()].sort_values("quality/sqnr_db", ascending=False)
    if known.empty:
        return ""
    if len(known[WEIGHTS].drop_duplicates()) > 1:
        return "; their SQNR are of different model.weights, so none is called the nearest"
    return f", the nearest is {_told(known.iloc[0])}, {_sqnr(known.iloc[0])}"


def _keeps_quality(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Whether the output keeps the quality; one that is equal to the last bit has no SQNR."""
    equal = rows.get("quality/max_abs_error", pd.Series(math.nan, rows.index)).eq(0)
    return (rows["quality/sqnr_db"] >= GOOD_SQNR_DB) | equal


def _that_pay(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that help, and are faster than the model is unquantized in its fastest compile mode."""
    faster = rows["scale/ms"] < rows["scale/baseline_ms"].min()
    found: pd.DataFrame = rows[(rows["verdict"] == Verdict.HELPS) & faster]
    return found


def _none_helps(rows: pd.DataFrame, every: pd.DataFrame) -> str:
    """Why none of some rows is the answer; the fastest unquantized mode is that of all of them."""
    best = _best(rows)
    helps = rows[rows["verdict"] == Verdict.HELPS]
    if len(helps):
        fastest = every.iloc[int(every["scale/baseline_ms"].argmin())]["compile"]
        return f"what helps is slower than the model unquantized with compile={fastest}"
    many = f"none of {len(rows)} treatments is" if len(rows) > 1 else "the one treatment is not"
    return f"{many} surely faster; the best, {_told(best)}: {best['verdict']}"


def _best(rows: pd.DataFrame) -> Row:
    return rows.iloc[int(rows["speedup/ratio"].argmax())]


def _told(row: Row) -> str:
    return f"{treatment_text(row)} {speedup_text(row)} ({interval_text(row)})"


def _sqnr(row: Row) -> str:
    return f"{decibels(float(row['quality/sqnr_db']))} dB"


def _rivals(best: Row, rows: pd.DataFrame) -> list[Row]:
    """The others whose intervals reach into that of the best, fastest first."""
    overlap = rows[(rows["scale/low_ms"] <= best["scale/high_ms"]) & (rows.index != best.name)]
    return [row for _, row in overlap.sort_values("scale/ms").iterrows()]


def _merged(picks: list[Pick]) -> list[Pick]:
    """Goals that the same treatment serves in one pick; goals that nothing serves for the same reason likewise."""
    found: list[Pick] = []
    for pick in picks:
        same = next((i for i, each in enumerate(found) if _same(each, pick)), None)
        if same is None:
            found.append(pick)
        else:
            found[same] = replace(found[same], goals=(*found[same].goals, *pick.goals))
    return found


def _same(one: Pick, other: Pick) -> bool:
    if one.row is None or other.row is None:
        return one.row is other.row and one.why == other.why
    return bool(one.row.name == other.row.name)
