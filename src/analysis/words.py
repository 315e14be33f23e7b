"""The verdict in words: sentences computed from the runs, claiming nothing that was not measured."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from src.analysis.frame import compared, model_level
from src.analysis.shapes import Case, number
from src.analysis.verdicts import not_run
from src.measurement.statistics import Verdict

_CONTROL = "none"
_MOST_MODELS = 2
_MOST_CURVES = 2
_AXES = {"batch": "batch {}", "resolution": "{} px", "dtype": "{}", "compile": "{}", "variant": "{}"}
_ORDER = (Verdict.HELPS, Verdict.NEUTRAL, Verdict.INCONCLUSIVE, Verdict.HURTS)
_SAYS = {
    Verdict.HELPS: "helps",
    Verdict.NEUTRAL: "makes no difference",
    Verdict.INCONCLUSIVE: "is inconclusive",
    Verdict.HURTS: "hurts",
}


def sentences(runs: pd.DataFrame, breakeven: pd.DataFrame, margin: float) -> list[str]:
    """At most 8 sentences about the standing runs: counts, each model, one Linear, what did not run, quality."""
    if runs.empty:
        return []
    return [
        _counted(runs, margin),
        *_models(runs),
        *_linears(breakeven),
        *_did_not_run(runs),
        *_quality(runs),
    ]


def _counted(runs: pd.DataFrame, margin: float) -> str:
    ran = compared(runs)
    ran, controls = ran[ran["quant"] != _CONTROL], ran[ran["quant"] == _CONTROL]
    verdicts = Counter(ran["verdict"])
    told = ", ".join(f"{v} {verdicts[v]}" for v in _ORDER if verdicts[v])
    devices = runs["device"].nunique()
    text = (
        f"{_runs(len(runs))} on {devices} device{'s' if devices > 1 else ''}; {len(ran)} compared a treatment"
    )
    text += f" with its baseline at a margin of {margin:.0%} ({told})" if len(ran) else " with its baseline"
    if len(controls):
        neutral = int((controls["verdict"] == Verdict.NEUTRAL).sum())
        text += f"; of the controls (quant=none) {neutral} of {len(controls)} came out neutral"
    return f"{text}."


def _models(runs: pd.DataFrame) -> Iterator[str]:
    ran = compared(model_level(runs))
    ran = ran[ran["quant"] != _CONTROL]
    groups = sorted(ran.groupby(["device", "model", "target"]), key=lambda item: -len(item[1]))
    for (device, model, target), group in groups[:_MOST_MODELS]:
        where = model if target == "denoiser" else f"{model}/{target}"
        schemes = sorted(group.groupby("quant"), key=lambda item: -float(item[1]["speedup/median"].max()))
        told = "; ".join(_scheme(str(quant), rows, group) for quant, rows in schemes)
        yield f"On {device}, {where}: {told}."
    if len(groups) > _MOST_MODELS:
        yield f"{len(groups) - _MOST_MODELS} further models and targets are in the table."


def _scheme(quant: str, rows: pd.DataFrame, group: pd.DataFrame) -> str:
    verdicts = [v for v in _ORDER if v in set(rows["verdict"])]
    if len(verdicts) == 1:
        where = "" if len(rows) == 1 else " in all"
        return f"{quant} {_SAYS[verdicts[0]]}{where or _at(rows, group)} ({_range(rows)})"
    parts = []
    for found in verdicts:
        part = rows[rows["verdict"] == found]
        parts.append(f"{_SAYS[found]}{_at(part, group)} ({_range(part)})")
    return f"{quant} {', '.join(parts)}"


def _at(rows: pd.DataFrame, group: pd.DataFrame) -> str:
    """``at batch 4, default``: the axes that vary in the group, where the rows are few enough to name."""
    varying = [name for name in _AXES if group[name].nunique(dropna=False) > 1]
    if not varying:
        return ""
    if len(rows) > 2:
        shared = [name for name in varying if rows[name].nunique(dropna=False) == 1]
        told = ", ".join(
            _AXES[name].format(rows[name].iloc[0]) for name in shared if rows[name].iloc[0] != ""
        )
        return f" in {len(rows)} of the cases" + (f", all at {told}" if told else "")
    told = " and ".join(
        ", ".join(_AXES[n].format(row[n]) for n in varying if row[n] != "") for _, row in rows.iterrows()
    )
    return f" at {told}"


def _range(rows: pd.DataFrame) -> str:
    """One run: its speedup and interval. Several: the span of the speedups and how many."""
    if len(rows) == 1:
        row = rows.iloc[0]
        return f"{row['speedup/median']:.2f}×, {row['speedup/ci_low']:.2f}–{row['speedup/ci_high']:.2f}"
    low, high = rows["speedup/median"].min(), rows["speedup/median"].max()
    return f"{low:.2f}× to {high:.2f}×, {_runs(len(rows))}"


def _linears(breakeven: pd.DataFrame) -> Iterator[str]:
    groups = sorted(breakeven.groupby(["device", "compile"]), key=lambda item: -len(item[1]))
    for (device, mode), group in groups[:_MOST_CURVES]:
        schemes = [_curves(str(quant), rows) for quant, rows in group.groupby("quant")]
        yield f"One Linear on {device}, compile={mode}: {'; '.join(schemes)}."


def _curves(quant: str, rows: pd.DataFrame) -> str:
    """A scheme's break-even over its (K, N) shapes."""
    curves = rows.drop_duplicates(["K", "N", "variant", "dtype", "model", "target"])
    cases = Counter(curves["case"])
    crossing = rows[(rows["case"] == Case.CROSSES) & (rows["direction"] == "up")]
    told = []
    if len(crossing):
        low, high = float(crossing["m"].min()), float(crossing["m"].max())
        span = f"M = {number(low)}" if number(low) == number(high) else f"M = {number(low)} to {number(high)}"
        told.append(f"pays from {span} on ({_of(cases[Case.CROSSES], len(curves))})")
    elif cases[Case.CROSSES]:
        told.append(f"stops paying as M grows ({_of(cases[Case.CROSSES], len(curves))})")
    alike = {
        Case.HELPS: "helps at every measured M",
        Case.HURTS: "hurts at every measured M",
        Case.NEUTRAL: "makes no difference at any measured M",
        Case.FASTER: "is faster at every measured M, not always beyond the margin",
        Case.SLOWER: "is slower at every measured M, not always beyond the margin",
    }
    told += [f"{text} ({_of(cases[case], len(curves))})" for case, text in alike.items() if cases[case]]
    return f"{quant} {', '.join(told)}"


def _of(count: int, total: int) -> str:
    return f"{count} of {total} K×N" if total > 1 else "1 K×N"


def _did_not_run(runs: pd.DataFrame) -> Iterator[str]:
    ended = not_run(runs)
    told = []
    for quant, rows in ended.groupby("quant", sort=False):
        reasons = list(dict.fromkeys(text for text in rows["reason"] if text))
        why = f": {_clipped(reasons[0])}" if reasons else f" ({rows['outcome'].iloc[0]})"
        more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
        told.append(f"{quant} did not run in {_runs(int(np.sum(rows['runs'])))}{why}{more}")
    if told:
        yield "; ".join(told) + "."


def _quality(runs: pd.DataFrame) -> Iterator[str]:
    helps = runs[(runs["verdict"] == Verdict.HELPS) & runs["quality/sqnr_db"].notna()]
    if len(helps):
        worst = helps.iloc[int(helps["quality/sqnr_db"].argmin())]
        yield (
            f"Of the {_runs(len(helps))} that help, the lowest SQNR is {worst['quality/sqnr_db']:.1f} dB "
            f"({worst['quant']}, {worst['model']})."
        )


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _clipped(text: str, limit: int = 140) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
