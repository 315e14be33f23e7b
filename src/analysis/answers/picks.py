"""What to use: of each workload the fastest treatment, the smallest, and the fastest that keeps the quality."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any

import pandas as pd

from src.analysis.across import ends
from src.analysis.runs.frame import (
    BASELINE,
    CACHED,
    MODEL,
    WEIGHTS,
    WORKLOAD,
    Plain,
    alike,
    compared,
    model_level,
    plain,
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
_MS, _BASELINE_MS, _SPEEDUP = map(itemgetter, ("scale/ms", "scale/baseline_ms", "speedup/ratio"))
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
    row: Plain | None  # None: leave it unquantized
    why: str = ""
    rivals: list[Plain] = field(default_factory=list)  # that it cannot be told apart from, best first
    nearest: Plain | None = None  # where there is none: what came closest


@dataclass(frozen=True)
class Answer:
    """The picks for one workload on one device."""

    first: Plain  # any run of the workload, for its names
    runs: int  # treatments that were compared
    picks: list[Pick]
    besides: list[Plain] = field(default_factory=list)  # quantized and treated otherwise too, fastest first


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
    firsts = ran[["device", "target", "model", "resolution", "batch"]][~group.duplicated()]
    order = zip(map(_order, plain(firsts)), group[firsts.index].tolist(), strict=True)
    numbers = [number for _, number in sorted(order, key=itemgetter(0))]
    shown = group[group.isin(numbers[:_MOST])]
    rows: dict[int, list[Plain]] = defaultdict(list)
    for number, row in zip(shown.tolist(), plain(_with_times(ran.loc[shown.index], shown)), strict=True):
        rows[number].append(row)
    found = [_answer(rows[number]) for number in numbers[:_MOST]]
    told = [replace(each, besides=_besides(each.first, others)) for each in found]
    return told, max(0, len(numbers) - _MOST)


def _besides(first: Plain, others: pd.DataFrame | None) -> list[Plain]:
    """Of the same device, model and workload, those that quantize among other things.

    With the step cache of both arms, unless they add one.
    """
    if others is None or others.empty:
        return []
    told = model_level(compared(others))
    told = told[(told["quant"] != _CONTROL) & told["treatment"].str.contains(_QUANT) & ~told["withheld"]]
    told = alike(told, first, ["device", *WORKLOAD, MODEL])
    told = told[(told[CACHED] == first[CACHED]) | told["treatment"].str.contains(_ADDS_CACHE)]
    return [*plain(told.sort_values("speedup/ratio", ascending=False))]


def _order(row: Plain) -> tuple[str, int, str, float, float]:
    target, sizes = str(row["target"]), (_size(row["resolution"]), _size(row["batch"]))
    return str(row["device"]), _LAST.get(target, 2), str(row["model"]), *sizes


def _size(value: Any) -> float:
    return 0.0 if pd.isna(value) else float(value)


def _answer(rows: Sequence[Plain]) -> Answer:
    picks = [_fastest(rows), _smallest(rows)]
    if rows[0]["target"] != PIPELINE:  # in a picture's SQNR its mean brightness counts as signal
        picks.append(_good(rows))
    return Answer(rows[0], len(rows), _merged(picks))


def _with_times(rows: pd.DataFrame, workload: "pd.Series[int]") -> pd.DataFrame:
    """Add what a treatment takes on one scale for all baselines, ms: ``scale/ms``, and its interval's ends.

    Runs measure their baselines anew, and these differ a little: the scale is the median unquantized time of those
    with the same in both arms (compile mode and its options, dtype of the baseline), divided by the speedup, which is
    paired. The ends hold what processes differ by: treatments were measured in different ones.
    """
    low, high = ends(rows)
    alike_ms = rows.groupby([workload, *BASELINE])["latency/baseline_median_ms"]
    unquantized_ms = alike_ms.transform("median").fillna(math.inf)  # what is not known is longer than any
    return rows.assign(
        **{
            "scale/baseline_ms": unquantized_ms,
            "scale/ms": unquantized_ms / rows["speedup/ratio"],
            "scale/low_ms": unquantized_ms / high,
            "scale/high_ms": unquantized_ms / low,
        }
    )


def _fastest(rows: Sequence[Plain]) -> Pick:
    pays = _that_pay(rows)
    if not pays:
        return Pick((Goal.FASTEST,), None, _none_helps(rows, rows), nearest=_best(rows))
    best = min(pays, key=_MS)
    return Pick((Goal.FASTEST,), best, rivals=_rivals(best, rows))


def _smallest(rows: Sequence[Plain]) -> Pick:
    smaller = [row for row in rows if row["memory/model_gib"] < row["memory/baseline_model_gib"]]
    if not smaller:
        told = "no treatment was measured to take less memory"
        return Pick((Goal.SMALLEST,), None, told)
    least = min(row["memory/model_gib"] for row in smaller)
    best, *others = sorted((row for row in smaller if row["memory/model_gib"] <= _AS_SMALL * least), key=_MS)
    return Pick((Goal.SMALLEST,), best, rivals=others)


def _good(rows: Sequence[Plain]) -> Pick:
    """Of those whose quality is known: where the unquantized output is all zeros it is not."""
    if not any(map(_quality_known, rows)):
        return Pick((Goal.GOOD,), None, "the quality of no treatment is known")
    good = [row for row in rows if _keeps_quality(row)]
    pays = [row for row in _that_pay(rows) if _quality_known(row)]
    kept = [row for row in pays if _keeps_quality(row)]
    if kept:
        best = min(kept, key=_MS)
        return Pick((Goal.GOOD,), best, rivals=_rivals(best, good))
    if pays:
        many = (
            f"none of the {len(pays)} that help keeps"
            if len(pays) > 1
            else "the one that helps does not keep"
        )
        return Pick((Goal.GOOD,), None, f"{many} it{_nearest(pays)}")
    if not good:
        return Pick((Goal.GOOD,), None, "no treatment keeps it")
    return Pick((Goal.GOOD,), None, _none_helps(good, rows), nearest=_best(good))


def _nearest(pays: Sequence[Plain]) -> str:
    """Which comes closest to the quality; none is called so where their weights are not the same."""
    known = [row for row in pays if pd.notna(row["quality/sqnr_db"])]
    if not known:
        return ""
    if len({tuple(row[name] for name in WEIGHTS) for row in known}) > 1:
        return "; their SQNR are of different model.weights, so none is called the nearest"
    nearest = max(known, key=lambda row: float(row["quality/sqnr_db"]))
    return f", the nearest is {_told(nearest)}, {_sqnr(nearest)}"


def _quality_known(row: Plain) -> bool:
    return bool(pd.notna(row["quality/sqnr_db"]) or row.get("quality/max_abs_error", math.nan) == 0)


def _keeps_quality(row: Plain) -> bool:
    """Whether the output keeps the quality; one that is equal to the last bit has no SQNR."""
    return bool(row["quality/sqnr_db"] >= GOOD_SQNR_DB or row.get("quality/max_abs_error", math.nan) == 0)


def _that_pay(rows: Sequence[Plain]) -> list[Plain]:
    """Rows that help, and are surely faster than the model is unquantized in its fastest compile mode.

    In their own mode that is what the verdict says; the unquantized model in another one was in another process.
    """
    least_ms = min(map(_BASELINE_MS, rows))
    helps = [row for row in rows if row["verdict"] == Verdict.HELPS]
    return [row for row in helps if _BASELINE_MS(row) == least_ms or row["scale/high_ms"] < least_ms]


def _none_helps(rows: Sequence[Plain], every: Sequence[Plain]) -> str:
    """Why none of some rows is the answer; the fastest unquantized mode is that of all of them."""
    best = _best(rows)
    if any(row["verdict"] == Verdict.HELPS for row in rows):
        fastest = min(every, key=_BASELINE_MS)["compile"]
        return f"what helps is not surely faster than the model unquantized with compile={fastest}"
    many = f"none of {len(rows)} treatments is" if len(rows) > 1 else "the one treatment is not"
    return f"{many} surely faster; the best, {_told(best)}: {best['verdict']}"


def _best(rows: Sequence[Plain]) -> Plain:
    return max(rows, key=_SPEEDUP)


def _told(row: Plain) -> str:
    return f"{treatment_text(row)} {speedup_text(row)} ({interval_text(row)})"


def _sqnr(row: Plain) -> str:
    return f"{decibels(float(row['quality/sqnr_db']))} dB"


def _rivals(best: Plain, rows: Sequence[Plain]) -> list[Plain]:
    """The others whose intervals reach into that of the best, fastest first."""
    overlap = [row for row in rows if row["scale/low_ms"] <= best["scale/high_ms"] and row is not best]
    return sorted(overlap, key=_MS)


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
    return one.row is other.row and (one.row is not None or one.why == other.why)
